/* SPDX-License-Identifier: MIT */
/*
 * Waits until nothing goes on behind the memory under test.
 */
#ifndef CLI_SETTLE_H
#define CLI_SETTLE_H

#include "cli/counters.h"
#include "cli/memory.h"
#include "cli/options.h"

#include <stdbool.h>
#include <stdint.h>

struct cli_settled {
	double seconds;
	uint64_t cpu_ns; /* of the process meanwhile */
	bool complete;   /* false: the wait was given up, and a note printed */
};

/*
 * Wait until the last faults are served and their windows mapped, fills have ended, and memory
 * that is filled has been released where the options say so; at most 10 s.  *@counters: those at
 * the end.  False: an error was printed.
 */
bool cli_settle(const struct cli_options *o, struct cli_memory *m, uint64_t len_bytes,
		struct cli_settled *out, struct cli_counters *counters);

#endif
