/* SPDX-License-Identifier: MIT */
/* `faultlane restore`: fills, maps, touches and verifies memory, and reports counters. */
#include "cli/cli.h"
#include "cli/guard.h"
#include "cli/input.h"
#include "cli/memory.h"
#include "cli/options.h"
#include "cli/report.h"
#include "measure/clock.h"
#include "measure/order.h"
#include "measure/touch.h"
#include "measure/verify.h"

#include "baselines/probe.h"
#include "measure/error.h"

#include <faultlane/faultlane.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* Workers install the windows of the last faults a little after the last touch. */
#define SETTLE_NS 20000000

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

static bool contents(struct measure_crew *crew, const void *ctx, uint64_t offset_bytes, void *buf,
		     uint64_t len_bytes)
{
	const struct cli_input *in = ctx;
	int rc = cli_input_read(in, offset_bytes, buf, len_bytes);

	return rc == 0 ||
	       measure_crew_fail(crew, "cannot read --image '%s' at offset %llu to verify: %s",
				 in->path, (unsigned long long)offset_bytes, strerror(-rc));
}

/*
 * Verify every guest's touched pages.  With --sharing private, verify all of every guest's
 * memory, and that the image is unchanged.
 */
static bool verify(const struct cli_options *o, const struct cli_input *in, struct cli_memory *m,
		   struct cli_report *r)
{
	struct measure_verify_opts v = {
		.title = "verifying",
		.plan = r->plan,
		.contents = contents,
		.ctx = in,
		.written = o->op == CLI_WRITE,
		.whole = o->sharing == CLI_PRIVATE,
	};

	for (uint32_t i = 0; i < o->nr_guests; i++) {
		v.addr = cli_memory_addrs(m)[i];
		v.first_thread = i * r->plan->nr_threads;
		if (!measure_verify(&v, &r->verify))
			return false;
	}
	if (!v.whole)
		return true;
	v.addr = NULL;
	v.fd = cli_memory_image(m);
	v.written = false;
	return measure_verify(&v, &r->verify);
}

static uint64_t nr_expected_pages(const struct cli_report *r)
{
	if (r->o->sharing == CLI_PRIVATE)
		return r->plan->total_pages * (r->o->nr_guests + 1);
	return r->plan->nr_pages * r->o->nr_guests;
}

/* The kernel does no fault-around for writes, so every slow write has faulted. */
static enum measure_fault_mark fault_mark(const struct cli_options *o)
{
	if (o->delivery == CLI_IN_CONTEXT || (o->design == CLI_KERNEL && o->op == CLI_WRITE))
		return MEASURE_SLOW;
	return o->design == CLI_KERNEL ? MEASURE_COUNTED : MEASURE_SLEPT;
}

static bool touch(const struct cli_options *o, const struct cli_memory *m, struct cli_report *r)
{
	struct measure_touch_opts opts = {
		.plan = r->plan,
		.addrs = cli_memory_addrs(m),
		.nr_guests = o->nr_guests,
		.cpus = o->vcpu_cpus,
		.title = "touching",
		.mark = fault_mark(o),
		.kernel = o->design == CLI_KERNEL,
		.writes = o->op == CLI_WRITE,
		.in_context = o->delivery == CLI_IN_CONTEXT,
		.part_pages = CLI_PART_PAGES,
	};
	struct measure_crowd *crowd = measure_crowd_create();
	bool ok = crowd && measure_touch(crowd, &opts, &r->touch);

	measure_crowd_destroy(crowd);
	return ok;
}

static bool measure(const struct cli_options *o, const struct cli_input *in, struct cli_memory *m,
		    struct cli_report *r)
{
	const struct timespec settle = { .tv_nsec = SETTLE_NS };
	r->fill_seconds = cli_memory_fill_seconds(m);
	if (!touch(o, m, r))
		return false;
	(void)nanosleep(&settle, NULL);
	if (!cli_memory_counters(m, &r->counters))
		return false;
	if (o->design == CLI_KERNEL)
		r->counters.stats.faults =
			r->touch.crowd.to.nr_minor_faults - r->touch.crowd.from.nr_minor_faults;
	return verify(o, in, m, r);
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
	if (r->verify.nr_wrong) {
		measure_error("%llu of %llu pages are wrong, the first is page %llu (offset %llu)",
			      (unsigned long long)r->verify.nr_wrong,
			      (unsigned long long)r->verify.nr_verified,
			      (unsigned long long)r->verify.first_wrong_page,
			      (unsigned long long)(r->verify.first_wrong_page * 4096));
		return CLI_FAILED;
	}
	if (r->verify.nr_verified != nr_expected_pages(r)) {
		measure_error("%llu pages were verified, but %llu were expected",
			      (unsigned long long)r->verify.nr_verified,
			      (unsigned long long)nr_expected_pages(r));
		return CLI_FAILED;
	}
	return CLI_OK;
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

static int restore(const struct cli_options *o, const struct cli_input *in,
		   const struct measure_plan *plan)
{
	struct cli_report r = { .o = o, .plan = plan };
	struct cli_memory *m = cli_memory_create(o, in);
	bool ok;

	if (!m)
		return CLI_FAILED;
	cli_guard_install(cli_memory_addrs(m), o->nr_guests, in->len_bytes);
	/* After the guard, so that the library's handler chains to it for failed pages. */
	ok = o->delivery == CLI_QUEUED || enter_context();
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
	struct measure_plan_opts plan_opts;
	struct measure_plan plan;
	bool done;
	int status = cli_options_parse(&o, argc, argv, &done);

	if (status || done)
		return status;
	if (!cli_input_open(&in, o.image))
		return CLI_FAILED;
	plan_opts = (struct measure_plan_opts){
		.total_pages = in.len_bytes / 4096,
		.density = o.density,
		.nr_threads = o.nr_threads / o.nr_guests,
		.shuffled = o.order == CLI_RANDOM,
		.mixed = o.order == CLI_RANDOM,
		.seed = o.seed,
	};
	if (measure_plan_init(&plan, &plan_opts)) {
		measure_error("out of memory for a list of %llu pages",
			      (unsigned long long)(in.len_bytes / 4096));
		cli_input_close(&in);
		return CLI_FAILED;
	}
	if (plan.nr_pages < plan.nr_threads) {
		measure_error("--threads %u exceeds the %llu pages to touch; "
			      "use fewer threads, a lower --density or a larger image",
			      o.nr_threads, (unsigned long long)plan.nr_pages * o.nr_guests);
		status = CLI_USAGE;
	} else {
		measure_clock_init();
		choose_mode(&o);
		status = restore(&o, &in, &plan);
	}
	measure_plan_deinit(&plan);
	cli_input_close(&in);
	return status;
}
