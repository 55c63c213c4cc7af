/* SPDX-License-Identifier: MIT */
/* The code that vCPUs run (guest.c), and its results for the host. */
#ifndef STRESS_GUEST_H
#define STRESS_GUEST_H

#include <stdint.h>

/* Why guest_touch() returned. */
enum guest_end {
	GUEST_DONE,  /* the run is over, or all touches are done */
	GUEST_GATE,  /* the gate is closed */
	GUEST_WRONG, /* a page was wrong; its contents are in toucher->copy */
};

/* The argument of guest_copy_emulated(). */
struct guest_copy {
	const uint64_t *from;
	uint64_t *to;
};

/* A vcpu_fn at level 0: copies a page by instructions that KVM emulates. */
uint64_t guest_copy_emulated(void *copy);

/* A vcpu_fn: touches pages for a struct toucher, until a reason above. */
uint64_t guest_touch(void *toucher);

#endif
