/* SPDX-License-Identifier: MIT */
/* `faultlane restore`: fill, map, touch, count, verify. */
#include "cli/cli.h"
#include "cli/clock.h"
#include "cli/guard.h"
#include "cli/input.h"
#include "cli/memory.h"
#include "cli/options.h"
#include "cli/order.h"
#include "cli/report.h"
#include "cli/touch.h"
#include "cli/verify.h"

#include "baselines/probe.h"

#include <faultlane/faultlane.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* Workers finish the windows of the last faults a moment after the last touch. */
#define SETTLE_NS 20000000

/* Where only faults of user mode may be served, that is enough here: say so and go on. */
static void choose_mode(struct cli_options *o)
{
	struct fln_probe_access access;

	if (o->design == CLI_KERNEL || o->user_mode_only)
		return;
	fln_probe_access(&access);
	if (access.device && access.syscall && !access.syscall_user_mode) {
		cli_error("note: only faults of user mode may be served by this user, which is "
			  "enough for touching threads; 'faultlane doctor' names the mend");
		o->user_mode_only = true;
	}
}

/* Every guest; and where writes are private, all of each, and that the image is as it was. */
static bool verify(const struct cli_options *o, const struct cli_input *in, struct cli_memory *m,
		   struct cli_report *r)
{
	struct cli_verify_opts v = {
		.plan = r->plan,
		.in = in,
		.written = o->op == CLI_WRITE,
		.whole = o->sharing == CLI_PRIVATE,
	};

	for (uint32_t i = 0; i < o->nr_guests; i++) {
		v.addr = cli_memory_addrs(m)[i];
		v.first_thread = i * r->plan->nr_threads;
		if (!cli_verify(&v, &r->verify))
			return false;
	}
	if (!v.whole)
		return true;
	v.addr = NULL;
	v.fd = cli_memory_image(m);
	v.written = false;
	return cli_verify(&v, &r->verify);
}

static uint64_t nr_pages_due(const struct cli_report *r)
{
	if (r->o->sharing == CLI_PRIVATE)
		return r->plan->total_pages * (r->o->nr_guests + 1);
	return r->plan->nr_pages * r->o->nr_guests;
}

static bool measure(const struct cli_options *o, const struct cli_input *in, struct cli_memory *m,
		    struct cli_report *r)
{
	const struct timespec settle = { .tv_nsec = SETTLE_NS };
	r->fill_seconds = cli_memory_fill_seconds(m);
	if (!cli_touch(o, r->plan, cli_memory_addrs(m), &r->touch))
		return false;
	(void)nanosleep(&settle, NULL);
	if (!cli_memory_counters(m, &r->counters))
		return false;
	if (o->design == CLI_KERNEL)
		r->counters.stats.faults =
			r->touch.to.nr_minor_faults - r->touch.from.nr_minor_faults;
	return verify(o, in, m, r);
}

static int report(const struct cli_report *r)
{
	if (r->o->json)
		cli_report_json(r);
	else
		cli_report_table(r);
	if (fflush(stdout) != 0) {
		cli_error("cannot write the figures to standard output");
		return CLI_FAILED;
	}
	if (r->verify.nr_wrong) {
		cli_error("%llu of %llu pages are wrong, the first is page %llu (offset %llu)",
			  (unsigned long long)r->verify.nr_wrong,
			  (unsigned long long)r->verify.nr_verified,
			  (unsigned long long)r->verify.first_wrong_page,
			  (unsigned long long)(r->verify.first_wrong_page * 4096));
		return CLI_FAILED;
	}
	if (r->verify.nr_verified != nr_pages_due(r)) {
		cli_error("%llu pages were verified where %llu are due",
			  (unsigned long long)r->verify.nr_verified,
			  (unsigned long long)nr_pages_due(r));
		return CLI_FAILED;
	}
	return CLI_OK;
}

/* The main thread touches the memory too, when it verifies. */
static bool enter(void)
{
	int rc = fln_sigbus_install();

	if (rc == 0)
		rc = fln_thread_enter();
	if (rc)
		cli_error("faults cannot be resolved in context: %s", fln_last_error());
	return rc == 0;
}

static int restore(const struct cli_options *o, const struct cli_input *in,
		   const struct cli_plan *plan)
{
	struct cli_report r = { .o = o, .plan = plan };
	struct cli_memory *m = cli_memory_create(o, in);
	bool ok;

	if (!m)
		return CLI_FAILED;
	cli_guard_install(cli_memory_addrs(m), o->nr_guests, in->len_bytes);
	/* Before the guard: it is told of what cannot be had. */
	ok = o->delivery == CLI_QUEUED || enter();
	if (ok) {
		ok = measure(o, in, m, &r);
		if (o->delivery == CLI_IN_CONTEXT)
			fln_thread_leave();
	}
	(void)fln_sigbus_remove();
	cli_guard_remove();
	cli_memory_destroy(m);
	return ok ? report(&r) : CLI_FAILED;
}

int cli_restore(int argc, char **argv)
{
	struct cli_options o;
	struct cli_input in;
	struct cli_plan plan;
	bool done;
	int status = cli_options_parse(&o, argc, argv, &done);

	if (status || done)
		return status;
	if (!cli_input_open(&in, o.image))
		return CLI_FAILED;
	if (cli_plan_init(&plan, in.len_bytes / 4096, o.density, o.nr_threads / o.nr_guests,
			  o.order == CLI_RANDOM, o.seed)) {
		cli_error("out of memory for a list of %llu pages",
			  (unsigned long long)(in.len_bytes / 4096));
		cli_input_close(&in);
		return CLI_FAILED;
	}
	if (plan.nr_pages < plan.nr_threads) {
		cli_error("--threads %u is more than the %llu pages that are to be touched; "
			  "use fewer threads, a lower --density or a larger image",
			  o.nr_threads, (unsigned long long)plan.nr_pages * o.nr_guests);
		status = CLI_USAGE;
	} else {
		cli_clock_init();
		choose_mode(&o);
		status = restore(&o, &in, &plan);
	}
	cli_plan_deinit(&plan);
	cli_input_close(&in);
	return status;
}
