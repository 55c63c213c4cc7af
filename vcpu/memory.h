/* SPDX-License-Identifier: MIT */
/*
 * The guest's memory: KVM memory slots, and the page tables that map them.
 */
#ifndef VCPU_MEMORY_H
#define VCPU_MEMORY_H

#include <stdint.h>

struct vcpu_vm;

/* Create the page tables and map the program's own code and data.  Return: 0; -errno. */
int vcpu_memory_init(struct vcpu_vm *vm);
void vcpu_memory_deinit(struct vcpu_vm *vm);
/* Map a page at @addr whose physical address has no memory: writing there exits to vcpu_run(). */
int vcpu_memory_map_doorbell(struct vcpu_vm *vm, const void *addr);
/* Translate a guest physical address to this process's address; 0: not mapped. */
uint64_t vcpu_memory_find(struct vcpu_vm *vm, uint64_t gpa);
/* The guest physical address of the root page table, for CR3. */
uint64_t vcpu_memory_root(const struct vcpu_vm *vm);

#endif
