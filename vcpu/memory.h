/* SPDX-License-Identifier: MIT */
/*
 * What the guest can reach: memory slots of KVM and the page tables over them.
 */
#ifndef VCPU_MEMORY_H
#define VCPU_MEMORY_H

#include <stdint.h>

struct vcpu_vm;

int vcpu_memory_init(struct vcpu_vm *vm);
void vcpu_memory_deinit(struct vcpu_vm *vm);
/* A page of addresses that leads to no memory. */
int vcpu_memory_map_doorbell(struct vcpu_vm *vm, const void *addr);
/* The process's address of a guest physical one that a range has; 0: none has it. */
uint64_t vcpu_memory_find(struct vcpu_vm *vm, uint64_t gpa);
uint64_t vcpu_memory_root(const struct vcpu_vm *vm);

#endif
