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

/* A vcpu_fn: touches for a struct toucher. */
uint64_t guest_touch(void *toucher);

#endif
