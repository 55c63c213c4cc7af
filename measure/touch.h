/* SPDX-License-Identifier: MIT */
/*
 * Touching threads, and what they measure.
 */
#ifndef MEASURE_TOUCH_H
#define MEASURE_TOUCH_H

#include "measure/crowd.h"
#include "measure/order.h"

#include <faultlane/stats.h>
#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What tells that a slow touch has faulted. */
enum measure_fault_mark {
	MEASURE_SLEPT,   /* its thread went to sleep: somebody else serves */
	MEASURE_COUNTED, /* the kernel, which serves alone, counted a fault */
	MEASURE_SLOW,    /* that it was slow: the kernel's faults on writes, in context */
};

struct measure_touch_opts {
	const struct measure_plan *plan; /* of the threads of one guest */
	char *const *addrs;              /* where each guest begins */
	uint32_t nr_guests;
	const char *cpus;  /* as measure_crowd_run() */
	const char *title; /* of the progress bar; NULL: none */
	enum measure_fault_mark mark;
	bool kernel; /* nobody serves but the kernel: faults are faster */
	bool writes;
	bool in_context;
	/* Optional: measured with the touches, as a part of no touch. */
	void (*before)(void *ctx, uint32_t thread);
	void *before_ctx;
	uint32_t part_pages; /* touches in every second part, beginning with the first, are
				recorded as prompt, too; 0: in all of it */
};

struct measure_touch_result {
	struct measure_crowd_result crowd;
	struct fln_histogram all;     /* every touch */
	struct fln_histogram faulted; /* touches that faulted */
	struct fln_histogram prompt;  /* of those, in every second part */
	uint64_t waits_over_10ms;
};

/*
 * Touch every page of the plan once, in each guest.  False: it has said why not.
 *
 * A touch has faulted when it took longer than a miss of caches and TLB does, and has
 * the mark of a fault.
 */
bool measure_touch(struct measure_crowd *crowd, const struct measure_touch_opts *o,
		   struct measure_touch_result *out);

#ifdef __cplusplus
}
#endif

#endif
