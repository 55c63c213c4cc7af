/* SPDX-License-Identifier: MIT */
/* With --guest kvm the threads run vCPUs, which touch. */
#ifndef STRESS_VCPUS_H
#define STRESS_VCPUS_H

#include "stress/stress.h"

int vcpus_create(struct stress *s);
void vcpus_destroy(struct stress *s);
/* The guest's memory is there now, is about to go: the slot follows. */
int vcpus_map_memory(struct stress *s);
int vcpus_unmap_memory(struct stress *s);
void *vcpu_toucher_main(void *toucher);
/* The time by which touchers say since when they wait. */
uint64_t touch_now_ns(const struct stress *s);

#endif
