/* SPDX-License-Identifier: MIT */
/* The phases of a restore: touch, settle, verify. */
#include "cli/phases.h"

#include "measure/crew.h"
#include "measure/crowd.h"
#include "measure/error.h"

#include <string.h>

struct run {
	const struct cli_options *o;
	const struct measure_plan *plan;
	const struct cli_input *in;
	struct cli_memory *m;
	struct measure_crowd *crowd;
};

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
 * Verify what has been touched until the end of @phase, in every guest.  After the last phase of
 * --sharing private, verify all of every guest's memory, and that the image is unchanged.  Not
 * after earlier phases, because that touches pages which later phases are to touch first.
 */
static bool verify(const struct run *run, uint32_t phase, const struct measure_plan *touched,
		   struct cli_phase *p)
{
	const struct cli_options *o = run->o;
	bool whole = o->sharing == CLI_PRIVATE && phase + 1 == run->plan->nr_phases;
	struct measure_verify_opts v = {
		.title = "verifying",
		.plan = touched,
		.contents = contents,
		.ctx = run->in,
		.written = o->op == CLI_WRITE,
		.whole = whole,
	};

	p->nr_expected = whole ? touched->total_pages * (o->nr_guests + 1)
			       : touched->nr_pages * o->nr_guests;
	for (uint32_t i = 0; i < o->nr_guests; i++) {
		v.addr = cli_memory_addrs(run->m)[i];
		v.first_thread = i * run->plan->nr_threads;
		if (!measure_verify(&v, &p->verify))
			return false;
	}
	if (!whole)
		return true;
	v.addr = NULL;
	v.fd = cli_memory_image(run->m);
	v.written = false;
	return measure_verify(&v, &p->verify);
}

static bool verify_touched(const struct run *run, uint32_t phase, struct cli_phase *p)
{
	struct measure_plan touched;
	bool ok;

	if (measure_plan_touched(&touched, run->plan, phase)) {
		measure_error("out of memory for a list of %llu pages",
			      (unsigned long long)run->plan->total_pages);
		return false;
	}
	ok = verify(run, phase, &touched, p);
	measure_plan_deinit(&touched);
	return ok;
}

/* The kernel does no fault-around for writes, so every slow write has faulted. */
static enum measure_fault_mark fault_mark(const struct cli_options *o)
{
	if (o->delivery == CLI_IN_CONTEXT || (o->design == CLI_KERNEL && o->op == CLI_WRITE))
		return MEASURE_SLOW;
	return o->design == CLI_KERNEL ? MEASURE_COUNTED : MEASURE_SLEPT;
}

static bool touch(const struct run *run, uint32_t phase, struct measure_touch_result *out)
{
	const struct cli_options *o = run->o;
	const struct measure_touch_opts opts = {
		.plan = run->plan,
		.phase = phase,
		.addrs = cli_memory_addrs(run->m),
		.nr_guests = o->nr_guests,
		.cpus = o->vcpu_cpus,
		.title = "touching",
		.mark = fault_mark(o),
		.kernel = o->design == CLI_KERNEL,
		.writes = o->op == CLI_WRITE,
		.in_context = o->delivery == CLI_IN_CONTEXT,
		.part_pages = CLI_PART_PAGES,
	};

	return measure_touch(run->crowd, &opts, out);
}

static uint64_t kernel_faults(const struct measure_touch_result *t)
{
	return t->crowd.to.nr_minor_faults - t->crowd.from.nr_minor_faults;
}

static bool run_phase(const struct run *run, uint32_t phase, struct cli_phase *p,
		      struct cli_counters *counters)
{
	uint64_t faults;

	if (!cli_counters_read(run->m, counters))
		return false;
	faults = counters->stats.faults;
	p->nr_pages = measure_plan_phase_pages(run->plan, phase) * run->o->nr_guests;
	if (!touch(run, phase, &p->touch) ||
	    !cli_settle(run->o, run->m, run->in->len_bytes, &p->settled, counters))
		return false;
	p->faults = run->o->design == CLI_KERNEL ? kernel_faults(&p->touch)
						 : counters->stats.faults - faults;
	p->filled_bytes = counters->filled_bytes;
	p->released_bytes = counters->stats.released_bytes;
	p->memory_bytes = counters->memory_bytes;
	p->userfaultfds = counters->stats.userfaultfds;
	return cli_counters_copied(run->m, &p->copied_bytes) && verify_touched(run, phase, p);
}

/* Add what was used from @from to @to. */
static void add_usage(struct measure_usage *sum, const struct measure_usage *from,
		      const struct measure_usage *to)
{
	sum->wall_ns += to->wall_ns - from->wall_ns;
	sum->own_cpu_ns += to->own_cpu_ns - from->own_cpu_ns;
	sum->busy_cpu_ns += to->busy_cpu_ns - from->busy_cpu_ns;
	sum->nr_voluntary_switches += to->nr_voluntary_switches - from->nr_voluntary_switches;
	sum->nr_minor_faults += to->nr_minor_faults - from->nr_minor_faults;
}

/* The sums of all phases: usage counts from zero there. */
static void add_up(struct cli_phases *all)
{
	struct measure_touch_result *sum = &all->touch;

	for (uint32_t i = 0; i < all->nr; i++) {
		const struct measure_touch_result *t = &all->phase[i].touch;

		fln_histogram_merge(&sum->all, &t->all);
		fln_histogram_merge(&sum->faulted, &t->faulted);
		fln_histogram_merge(&sum->prompt, &t->prompt);
		sum->waits_over_10ms += t->waits_over_10ms;
		sum->crowd.seconds += t->crowd.seconds;
		add_usage(&sum->crowd.to, &t->crowd.from, &t->crowd.to);
	}
}

bool cli_phases_run(const struct cli_options *o, const struct measure_plan *plan,
		    const struct cli_input *in, struct cli_memory *m, struct cli_phases *out)
{
	struct run run = {
		.o = o,
		.plan = plan,
		.in = in,
		.m = m,
		.crowd = measure_crowd_create(),
	};
	bool ok = run.crowd != NULL;

	if (!ok)
		measure_error("out of memory for %u threads", o->nr_threads);
	out->nr = plan->nr_phases;
	for (uint32_t i = 0; ok && i < out->nr; i++)
		ok = run_phase(&run, i, &out->phase[i], &out->counters);
	measure_crowd_destroy(run.crowd);
	if (!ok)
		return false;
	add_up(out);
	if (o->design == CLI_KERNEL)
		out->counters.stats.faults = kernel_faults(&out->touch);
	return true;
}
