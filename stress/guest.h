/* SPDX-License-Identifier: MIT */
/* What vCPUs run (guest.c), and what the host reads of it. */
#ifndef STRESS_GUEST_H
#define STRESS_GUEST_H

#include <stdint.h>

/* Why it came back. */
enum guest_end {
	GUEST_DONE,  /* the run is over, or it has made its touches */
	GUEST_GATE,  /* the gate is closed */
	GUEST_WRONG, /* what the page held that was read last is in toucher->copy */
};

/* Reads a page by instructions that KVM emulates. */
struct guest_copy {
	const uint64_t *from;
	uint64_t *to;
};

/* A vcpu_fn, at level 0: for a struct guest_copy. */
uint64_t guest_copy_emulated(void *copy);

/* A vcpu_fn: touches for a struct toucher. */
uint64_t guest_touch(void *toucher);

#endif
