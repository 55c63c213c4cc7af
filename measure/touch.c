/* SPDX-License-Identifier: MIT */
/*
 * Threads that touch pages and measure each touch.
 *
 * The overhead of a touch is one reading of the counter and one histogram entry: the end of a
 * touch is the beginning of the next.  Only slow touches are examined further.
 */
#include "measure/touch.h"

#include "measure/clock.h"
#include "measure/error.h"
#include "measure/progress.h"

#include <faultlane/faultlane.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#define SLOW_NS 2000u       /* below the fastest fault resolved by another thread */
#define KERNEL_SLOW_NS 700u /* below the kernel's own faults, above a cache and TLB miss */
#define LONG_WAIT_NS 10000000u
#define PAGE_BYTES 4096u

struct toucher {
	uint64_t slow_ns;
	uint64_t fault_marks;
	uint64_t waits_over_10ms;
	uint64_t sum; /* of the words read, so that reads are not optimized away */
	_Atomic uint64_t nr_done;
	struct fln_histogram all;
	struct fln_histogram faulted;
	struct fln_histogram prompt;
};

struct touching {
	const struct measure_touch_opts *o;
	uint32_t nr;
	struct toucher *touchers;
};

/* The counter that grows when a touch of this thread faults. */
static uint64_t fault_marks(enum measure_fault_mark mark)
{
	struct rusage usage;

	if (mark == MEASURE_SLOW)
		return 0;
	(void)getrusage(RUSAGE_THREAD, &usage);
	return (uint64_t)(mark == MEASURE_COUNTED ? usage.ru_minflt : usage.ru_nvcsw);
}

/* Record a slow touch, and whether it faulted.  Return: the start time of the next touch. */
static uint64_t note_slow(const struct measure_touch_opts *o, struct toucher *t, uint32_t page,
			  uint64_t ns)
{
	uint64_t marks = fault_marks(o->mark);

	if (o->mark == MEASURE_SLOW || marks != t->fault_marks) {
		fln_histogram_record(&t->faulted, ns);
		if (o->part_pages == 0 || page / o->part_pages % 2 == 0)
			fln_histogram_record(&t->prompt, ns);
	}
	t->fault_marks = marks;
	if (ns > LONG_WAIT_NS)
		t->waits_over_10ms++;
	return measure_ticks();
}

static bool prepare(void *ctx, uint32_t thread)
{
	struct touching *all = ctx;
	struct toucher *t = &all->touchers[thread];

	/* Also populates its pages before measurement starts. */
	memset(t, 0, sizeof(*t));
	t->slow_ns = all->o->kernel ? KERNEL_SLOW_NS : SLOW_NS;
	if (!all->o->in_context || fln_thread_enter() == 0)
		return true;
	measure_error("fln_thread_enter() failed: %s", fln_last_error());
	return false;
}

static void touch_pages(void *ctx, uint32_t thread)
{
	struct touching *all = ctx;
	const struct measure_touch_opts *o = all->o;
	const struct measure_plan *plan = o->plan;
	struct toucher *t = &all->touchers[thread];
	char *addr = o->addrs[thread / plan->nr_threads];
	uint64_t lo, hi, sum = 0, from;

	measure_plan_phase_slice(plan, thread % plan->nr_threads, o->phase, &lo, &hi);
	if (o->before)
		o->before(o->before_ctx, thread);
	t->fault_marks = fault_marks(o->mark);
	from = measure_ticks();
	for (uint64_t i = lo; i < hi; i++) {
		uint32_t page = plan->pages[i];
		volatile uint64_t *word =
			(volatile uint64_t *)(void *)(addr + (uint64_t)page * PAGE_BYTES);
		uint64_t to, ns;

		if (o->writes)
			*word = measure_plan_token(plan, page, thread);
		else
			sum += *word;
		to = measure_ticks();
		ns = measure_ticks_between_ns(from, to);
		fln_histogram_record(&t->all, ns);
		from = ns < t->slow_ns ? to : note_slow(o, t, page, ns);
		if (i % 64 == 63)
			atomic_store_explicit(&t->nr_done, i - lo, memory_order_relaxed);
	}
	t->sum = sum;
	atomic_store_explicit(&t->nr_done, hi - lo, memory_order_relaxed);
}

static void finish(void *ctx, uint32_t thread)
{
	const struct touching *all = ctx;

	(void)thread;
	if (all->o->in_context)
		fln_thread_leave();
}

static uint64_t pages_done(const void *ctx)
{
	const struct touching *all = ctx;
	uint64_t sum = 0;

	for (uint32_t i = 0; i < all->nr; i++)
		sum += atomic_load_explicit(&all->touchers[i].nr_done, memory_order_relaxed);
	return sum;
}

static void gather(const struct touching *all, struct measure_touch_result *out)
{
	for (uint32_t i = 0; i < all->nr; i++) {
		const struct toucher *t = &all->touchers[i];

		fln_histogram_merge(&out->all, &t->all);
		fln_histogram_merge(&out->faulted, &t->faulted);
		fln_histogram_merge(&out->prompt, &t->prompt);
		out->waits_over_10ms += t->waits_over_10ms;
	}
}

bool measure_touch(struct measure_crowd *crowd, const struct measure_touch_opts *o,
		   struct measure_touch_result *out)
{
	struct touching all = { .o = o, .nr = o->plan->nr_threads * o->nr_guests };
	struct measure_work work = { prepare, touch_pages, finish, &all };
	struct measure_progress progress;
	bool ok;

	memset(out, 0, sizeof(*out));
	all.touchers = calloc(all.nr, sizeof(*all.touchers));
	if (!all.touchers) {
		measure_error("out of memory for %u touching threads", all.nr);
		return false;
	}
	measure_progress_start(&progress, o->title,
			       measure_plan_phase_pages(o->plan, o->phase) * o->nr_guests,
			       pages_done, &all);
	ok = measure_crowd_run(crowd, all.nr, o->cpus, &work, &out->crowd);
	measure_progress_stop(&progress);
	if (ok)
		gather(&all, out);
	free(all.touchers);
	return ok;
}
