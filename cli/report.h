/* SPDX-License-Identifier: MIT */
/*
 * The figures of a restore, for programs and for people.
 */
#ifndef CLI_REPORT_H
#define CLI_REPORT_H

#include "cli/memory.h"
#include "cli/options.h"
#include "cli/order.h"
#include "cli/touch.h"
#include "cli/verify.h"

struct cli_report {
	const struct cli_options *o;
	const struct cli_plan *plan;
	double fill_seconds;
	struct cli_touch_result touch;
	struct cli_counters counters;
	struct cli_verify_result verify;
};

/* One object on one line. */
void cli_report_json(const struct cli_report *r);
void cli_report_table(const struct cli_report *r);

#endif
