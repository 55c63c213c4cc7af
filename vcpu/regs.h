/* SPDX-License-Identifier: MIT */
/*
 * The registers of a vCPU: long mode, flat.
 */
#ifndef VCPU_REGS_H
#define VCPU_REGS_H

struct vcpu;

/* The state in which no function has begun. */
int vcpu_regs_init(struct vcpu *v);
int vcpu_regs_restart(struct vcpu *v);
void vcpu_stub(void); /* in the guest only */

#endif
