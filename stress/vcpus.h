/* SPDX-License-Identifier: MIT */
/* With --guest kvm each touching thread runs a vCPU that touches. */
#ifndef STRESS_VCPUS_H
#define STRESS_VCPUS_H

#include "stress/stress.h"

int vcpus_create(struct stress *s);
void vcpus_destroy(struct stress *s);
/* Create the slot after the guest has started, and delete it before the guest is destroyed. */
int vcpus_map_memory(struct stress *s);
int vcpus_unmap_memory(struct stress *s);
void *vcpu_toucher_main(void *toucher);
/* The current time on the clock of toucher.since_ns. */
uint64_t touch_now_ns(const struct stress *s);

#endif
