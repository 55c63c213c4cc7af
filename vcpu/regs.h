/* SPDX-License-Identifier: MIT */
/*
 * The registers of a vCPU: 64-bit long mode, flat segments.
 */
#ifndef VCPU_REGS_H
#define VCPU_REGS_H

struct vcpu;

/* Set all registers, to start in vcpu_stub().  Return: 0; -errno. */
int vcpu_regs_init(struct vcpu *v);
/* Abandon the current function: the next run starts in vcpu_stub().  Return: 0; -errno. */
int vcpu_regs_restart(struct vcpu *v);
void vcpu_stub(void); /* runs in the guest only */

#endif
