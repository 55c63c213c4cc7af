/* SPDX-License-Identifier: MIT */
/*
 * Threads that touch pages and measure each touch.
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

/* How to tell whether a slow touch has faulted. */
enum measure_fault_mark {
	MEASURE_SLEPT,   /* the thread slept: another thread resolves faults */
	MEASURE_COUNTED, /* the thread's minor-fault count grew: the kernel resolves faults */
	MEASURE_SLOW,    /* by its duration alone: the kernel's write faults, in-context faults */
};

struct measure_touch_opts {
	const struct measure_plan *plan; /* for the threads of one guest */
	char *const *addrs;              /* the address of each guest's memory */
	uint32_t nr_guests;
	uint32_t phase;    /* of the plan's, from 0 on */
	const char *cpus;  /* as measure_crowd_run() */
	const char *title; /* of the progress bar; NULL: none */
	enum measure_fault_mark mark;
	bool kernel; /* the kernel alone resolves faults, which is faster */
	bool writes;
	bool in_context;
	/* Optional: called on each thread before its first touch, inside the measured time. */
	void (*before)(void *ctx, uint32_t thread);
	void *before_ctx;
	uint32_t part_pages; /* of the parts of so many pages, faulted touches in every second one,
				beginning with the first, count as prompt too; 0: in all */
};

struct measure_touch_result {
	struct measure_crowd_result crowd;
	struct fln_histogram all;     /* every touch */
	struct fln_histogram faulted; /* touches that faulted */
	struct fln_histogram prompt;  /* faulted touches in every second part */
	uint64_t waits_over_10ms;
};

/*
 * Touch every page of a phase of the plan once, in each guest; blocks until done.  False: an
 * error has been printed.
 *
 * A touch counts as faulted when it took longer than a cache and TLB miss and @mark
 * indicates a fault.
 */
bool measure_touch(struct measure_crowd *crowd, const struct measure_touch_opts *o,
		   struct measure_touch_result *out);

#ifdef __cplusplus
}
#endif

#endif
