/* SPDX-License-Identifier: MIT */
/*
 * The touching threads, and what they measure.
 */
#ifndef CLI_TOUCH_H
#define CLI_TOUCH_H

#include "cli/machine.h"
#include "cli/options.h"
#include "cli/order.h"

#include <faultlane/stats.h>
#include <stdbool.h>
#include <stdint.h>

struct cli_touch_result {
	double seconds;               /* from the first touch to the end of the last */
	struct cli_usage from, to;    /* around the touching */
	struct fln_histogram all;     /* every touch */
	struct fln_histogram faulted; /* touches that faulted */
	struct fln_histogram prompt;  /* of those, in parts that no --delay-ms delays */
	uint64_t waits_over_10ms;
};

/*
 * Touch every page of the plan once, in each guest: the plan is for the threads of
 * one guest, and @addrs has where each of --guests begins.  False: it has said why not.
 *
 * A touch has faulted when its thread went to sleep in it and somebody served it.
 * With the design kernel: when the kernel counted a fault, looked at after touches
 * that took longer than a miss of caches and TLB does.
 */
bool cli_touch(const struct cli_options *o, const struct cli_plan *plan, char *const *addrs,
	       struct cli_touch_result *out);

#endif
