/* SPDX-License-Identifier: MIT */
/*
 * The figures of a restore, for programs and for people.
 */
#ifndef CLI_REPORT_H
#define CLI_REPORT_H

#include "cli/memory.h"
#include "cli/options.h"
#include "measure/order.h"
#include "measure/touch.h"
#include "measure/verify.h"

struct cli_report {
	const struct cli_options *o;
	const struct measure_plan *plan;
	double fill_seconds;
	struct measure_touch_result touch;
	struct cli_counters counters;
	struct measure_verify_result verify;
};

/* One object on one line. */
void cli_report_json(const struct cli_report *r);
void cli_report_table(const struct cli_report *r);

#endif
