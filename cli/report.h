/* SPDX-License-Identifier: MIT */
/*
 * The results of a restore, as JSON and as a table.
 */
#ifndef CLI_REPORT_H
#define CLI_REPORT_H

#include "cli/options.h"
#include "cli/phases.h"
#include "measure/order.h"

struct cli_report {
	const struct cli_options *o;
	const struct measure_plan *plan;
	double fill_seconds;
	struct cli_phases phases;
};

/* Print one JSON object, on one line. */
void cli_report_json(const struct cli_report *r);
/* Print a table for people. */
void cli_report_table(const struct cli_report *r);

#endif
