/* SPDX-License-Identifier: MIT */
/*
 * The phases of a restore: in each, part of the pages is touched, the memory settles, and what
 * has been touched until then is verified.
 */
#ifndef CLI_PHASES_H
#define CLI_PHASES_H

#include "cli/counters.h"
#include "cli/input.h"
#include "cli/memory.h"
#include "cli/options.h"
#include "cli/settle.h"
#include "measure/order.h"
#include "measure/touch.h"
#include "measure/verify.h"

#include <stdbool.h>
#include <stdint.h>

struct cli_phase {
	uint64_t nr_pages; /* touched in this phase, in all guests */
	uint64_t faults;   /* served while they were touched and the memory settled */
	struct measure_touch_result touch;
	struct cli_settled settled;
	/* When it had settled. */
	uint64_t filled_bytes;
	uint64_t released_bytes;
	uint64_t memory_bytes;
	uint64_t copied_bytes; /* by guests with --sharing private */
	uint64_t userfaultfds;
	/* Of all pages touched until then. */
	struct measure_verify_result verify;
	uint64_t nr_expected; /* to be verified */
};

struct cli_phases {
	uint32_t nr;
	struct cli_phase phase[CLI_MAX_PHASES];
	struct measure_touch_result touch; /* of all phases; settling is not in its times */
	struct cli_counters counters;      /* at the end */
};

/* Run all phases.  False: an error was printed. */
bool cli_phases_run(const struct cli_options *o, const struct measure_plan *plan,
		    const struct cli_input *in, struct cli_memory *m, struct cli_phases *out);

#endif
