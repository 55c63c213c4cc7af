/* SPDX-License-Identifier: MIT */
/* `faultlane restore`: fills, maps, touches and verifies memory, and reports counters. */
#include "cli/cli.h"
#include "cli/guard.h"
#include "cli/input.h"
#include "cli/memory.h"
#include "cli/options.h"
#include "cli/options_check.h"
#include "cli/phases.h"
#include "cli/report.h"
#include "measure/clock.h"
#include "measure/order.h"

#include "baselines/probe.h"
#include "measure/error.h"

#include <faultlane/faultlane.h>
#include <stdio.h>
#include <stdlib.h>

/* If this user may handle user-mode faults only, that is enough here: warn and continue. */
static void choose_mode(struct cli_options *o)
{
	struct fln_probe_access access;

	if (o->design == CLI_KERNEL || o->user_mode_only)
		return;
	fln_probe_access(&access);
	if (access.device && access.syscall &&
	    (!access.syscall_user_mode || !access.device_user_mode)) {
		measure_error(
			"note: this user may handle user-mode faults only, which is enough for "
			"touching threads; 'faultlane doctor' names the remedy");
		o->user_mode_only = true;
	}
}

/* Every page of every phase must be right, and none may have been left out. */
static int judge(const struct cli_report *r)
{
	for (uint32_t i = 0; i < r->phases.nr; i++) {
		const struct measure_verify_result *v = &r->phases.phase[i].verify;

		if (v->nr_wrong) {
			measure_error("%llu of %llu pages are wrong, the first is page %llu "
				      "(offset %llu)",
				      (unsigned long long)v->nr_wrong,
				      (unsigned long long)v->nr_verified,
				      (unsigned long long)v->first_wrong_page,
				      (unsigned long long)(v->first_wrong_page * 4096));
			return CLI_FAILED;
		}
		if (v->nr_verified != r->phases.phase[i].nr_expected) {
			measure_error("%llu pages were verified, but %llu were expected",
				      (unsigned long long)v->nr_verified,
				      (unsigned long long)r->phases.phase[i].nr_expected);
			return CLI_FAILED;
		}
	}
	return CLI_OK;
}

static int report(const struct cli_report *r)
{
	if (r->o->json)
		cli_report_json(r);
	else
		cli_report_table(r);
	if (fflush(stdout) != 0) {
		measure_error("cannot write the results to standard output");
		return CLI_FAILED;
	}
	return judge(r);
}

/* The main thread touches memory too, to verify it, so it must resolve its own faults. */
static bool enter_context(void)
{
	int rc = fln_sigbus_install();

	if (rc == 0)
		rc = fln_thread_enter();
	if (rc)
		measure_error("cannot resolve faults in context: %s", fln_last_error());
	return rc == 0;
}

static bool measure(const struct cli_options *o, const struct cli_input *in, struct cli_memory *m,
		    struct cli_report *r)
{
	bool ok;

	r->fill_seconds = cli_memory_fill_seconds(m);
	cli_guard_install(cli_memory_addrs(m), o->nr_guests, in->len_bytes);
	/* After the guard, so that the library's handler chains to it for failed pages. */
	ok = o->delivery == CLI_QUEUED || enter_context();
	if (ok) {
		ok = cli_phases_run(o, r->plan, in, m, &r->phases);
		if (o->delivery == CLI_IN_CONTEXT)
			fln_thread_leave();
	}
	(void)fln_sigbus_remove();
	cli_guard_remove();
	return ok;
}

static int restore(const struct cli_options *o, const struct cli_input *in,
		   const struct measure_plan *plan)
{
	struct cli_report *r = calloc(1, sizeof(*r)); /* too large for a small stack */
	struct cli_memory *m;
	int status = CLI_FAILED;

	if (!r) {
		measure_error("out of memory");
		return CLI_FAILED;
	}
	r->o = o;
	r->plan = plan;
	m = cli_memory_create(o, in);
	if (m) {
		bool ok = measure(o, in, m, r);

		cli_memory_destroy(m);
		status = ok ? report(r) : CLI_FAILED;
	}
	free(r);
	return status;
}

/* Each thread must have a page to touch in each phase. */
static int check_plan(const struct cli_options *o, const struct measure_plan *plan)
{
	unsigned long long nr_pages = (unsigned long long)plan->nr_pages * o->nr_guests;

	if (plan->nr_pages / plan->nr_phases >= plan->nr_threads)
		return CLI_OK;
	if (plan->nr_phases == 1)
		measure_error("--threads %u exceeds the %llu pages to touch; "
			      "use fewer threads, a lower --density or a larger image",
			      o->nr_threads, nr_pages);
	else
		measure_error("--threads %u with --phases %u exceeds the %llu pages to touch; use "
			      "--phases 1, fewer threads, a lower --density or a larger image",
			      o->nr_threads, plan->nr_phases, nr_pages);
	return CLI_USAGE;
}

int cli_restore(int argc, char **argv)
{
	struct cli_options o;
	struct cli_input in;
	struct measure_plan_opts plan_opts;
	struct measure_plan plan;
	bool done;
	int status = cli_options_parse(&o, argc, argv, &done);

	if (status || done)
		return status;
	status = cli_options_check(&o);
	if (status)
		return status;
	if (!cli_input_open(&in, o.image))
		return CLI_FAILED;
	plan_opts = (struct measure_plan_opts){
		.total_pages = in.len_bytes / 4096,
		.density = o.density,
		.nr_threads = o.nr_threads / o.nr_guests,
		.shuffled = o.order == CLI_RANDOM,
		.mixed = o.order == CLI_RANDOM,
		.nr_phases = o.nr_phases,
		.seed = o.seed,
	};
	if (measure_plan_init(&plan, &plan_opts)) {
		measure_error("out of memory for a list of %llu pages",
			      (unsigned long long)(in.len_bytes / 4096));
		cli_input_close(&in);
		return CLI_FAILED;
	}
	status = check_plan(&o, &plan);
	if (status == CLI_OK) {
		measure_clock_init();
		choose_mode(&o);
		status = restore(&o, &in, &plan);
	}
	measure_plan_deinit(&plan);
	cli_input_close(&in);
	return status;
}
