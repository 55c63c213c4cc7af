/* SPDX-License-Identifier: MIT */
/*
 * Touching threads.
 *
 * All threads are started first and wait at a gate; the usage of processors is
 * read, the gate opens, and it is read again when the last thread has touched its
 * last page, while the threads wait at a second gate: neither starting nor ending
 * them is measured.
 *
 * A touch costs one reading of the counter and one histogram entry: the end of a
 * touch is the beginning of the next.  Only a touch that was slow is looked at
 * closer.
 */
#include "cli/touch.h"

#include "cli/cli.h"
#include "cli/clock.h"
#include "cli/cpus.h"
#include "cli/progress.h"

#include <errno.h>
#include <faultlane/faultlane.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#define STACK_BYTES (256u << 10)
#define SLOW_NS 2000u       /* no fault that is served by another thread is faster */
#define KERNEL_SLOW_NS 700u /* the kernel's own faults; a miss of caches and TLB takes less */
#define LONG_WAIT_NS 10000000u
#define PAGE_BYTES 4096u

struct toucher {
	struct crowd *crowd;
	pthread_t thread;
	uint32_t index;
	uint64_t slow_ns;
	uint64_t first_ticks;
	uint64_t last_ticks;
	uint64_t fault_marks;
	uint64_t waits_over_10ms;
	uint64_t sum; /* of what was read, so that reading is not optimized away */
	_Atomic uint64_t nr_done;
	struct fln_histogram all;
	struct fln_histogram faulted;
	struct fln_histogram prompt;
};

struct crowd {
	const struct cli_options *o;
	const struct cli_plan *plan;
	char *const *addrs;
	uint32_t nr;
	pthread_mutex_t mutex;
	pthread_cond_t cond;
	uint32_t nr_ready;    /* guarded by mutex */
	uint32_t nr_finished; /* guarded by mutex */
	bool open;            /* guarded by mutex: go */
	bool close;           /* guarded by mutex: end */
	bool abandoned;       /* guarded by mutex: end without having touched */
	struct toucher touchers[];
};

/*
 * What rises when this thread's touch faults: it slept until somebody had served
 * it; or, where nobody but the kernel serves, the kernel's count.
 */
static uint64_t fault_marks(const struct toucher *t)
{
	struct rusage usage;

	(void)getrusage(RUSAGE_THREAD, &usage);
	return (uint64_t)(t->crowd->o->design == CLI_KERNEL ? usage.ru_minflt : usage.ru_nvcsw);
}

/* A slow touch: did it fault?  Return: the time from which the next touch counts. */
static uint64_t note_slow(struct toucher *t, uint32_t page, uint64_t ns)
{
	bool faulted = true;

	/*
	 * The kernel alone maps nothing ahead of a write: no need to ask, which takes time.
	 * Who resolves his own faults does not sleep, and nothing tells but the time.
	 */
	if (t->crowd->o->delivery == CLI_QUEUED &&
	    (t->crowd->o->design != CLI_KERNEL || t->crowd->o->op == CLI_READ)) {
		uint64_t marks = fault_marks(t);

		faulted = marks != t->fault_marks;
		t->fault_marks = marks;
	}
	if (faulted) {
		fln_histogram_record(&t->faulted, ns);
		if (page / CLI_PART_PAGES % 2 == 0)
			fln_histogram_record(&t->prompt, ns);
	}
	if (ns > LONG_WAIT_NS)
		t->waits_over_10ms++;
	return cli_ticks();
}

static void touch_pages(struct toucher *t)
{
	const struct cli_plan *plan = t->crowd->plan;
	bool writes = t->crowd->o->op == CLI_WRITE;
	char *addr = t->crowd->addrs[t->index / plan->nr_threads];
	uint64_t lo, hi, sum = 0, from;

	cli_plan_slice(plan, t->index % plan->nr_threads, &lo, &hi);
	t->fault_marks = fault_marks(t);
	from = t->first_ticks = cli_ticks();
	for (uint64_t i = lo; i < hi; i++) {
		uint32_t page = plan->pages[i];
		volatile uint64_t *word =
			(volatile uint64_t *)(void *)(addr + (uint64_t)page * PAGE_BYTES);
		uint64_t to, ns;

		if (writes)
			*word = cli_plan_token(plan, page, t->index);
		else
			sum += *word;
		to = cli_ticks();
		ns = cli_ticks_between_ns(from, to);
		fln_histogram_record(&t->all, ns);
		from = ns < t->slow_ns ? to : note_slow(t, page, ns);
		if (i % 64 == 63)
			atomic_store_explicit(&t->nr_done, i - lo, memory_order_relaxed);
	}
	t->last_ticks = cli_ticks();
	t->sum = sum;
	atomic_store_explicit(&t->nr_done, hi - lo, memory_order_relaxed);
}

static void *toucher_main(void *arg)
{
	struct toucher *t = arg;
	struct crowd *c = t->crowd;
	bool go;

	/* Their pages shall be there before the clock runs. */
	memset(&t->all, 0, sizeof(t->all));
	memset(&t->faulted, 0, sizeof(t->faulted));
	memset(&t->prompt, 0, sizeof(t->prompt));
	if (c->o->delivery == CLI_IN_CONTEXT && fln_thread_enter() != 0) {
		cli_error("a thread cannot resolve its faults: %s", fln_last_error());
		exit(CLI_FAILED);
	}
	(void)pthread_mutex_lock(&c->mutex);
	c->nr_ready++;
	(void)pthread_cond_broadcast(&c->cond);
	while (!c->open)
		(void)pthread_cond_wait(&c->cond, &c->mutex);
	go = !c->abandoned;
	(void)pthread_mutex_unlock(&c->mutex);
	if (go)
		touch_pages(t);
	if (c->o->delivery == CLI_IN_CONTEXT)
		fln_thread_leave();
	if (!go)
		return NULL;
	(void)pthread_mutex_lock(&c->mutex);
	if (++c->nr_finished == c->nr)
		(void)pthread_cond_broadcast(&c->cond);
	while (!c->close)
		(void)pthread_cond_wait(&c->cond, &c->mutex);
	(void)pthread_mutex_unlock(&c->mutex);
	return NULL;
}

static uint64_t pages_done(const void *ctx)
{
	const struct crowd *c = ctx;
	uint64_t sum = 0;

	for (uint32_t i = 0; i < c->nr; i++)
		sum += atomic_load_explicit(&c->touchers[i].nr_done, memory_order_relaxed);
	return sum;
}

static void say_no_thread(uint32_t started, uint32_t wanted, int err)
{
	struct rlimit limit = { .rlim_cur = RLIM_INFINITY };
	char text[64] = "";

	(void)getrlimit(RLIMIT_NPROC, &limit);
	if (limit.rlim_cur != RLIM_INFINITY)
		(void)snprintf(text, sizeof(text), ", now %llu",
			       (unsigned long long)limit.rlim_cur);
	cli_error(
		"only %u of --threads %u could be started: %s; raise the limit of processes "
		"(ulimit -u%s), of the container (pids.max) or kernel.threads-max, or ask for fewer",
		started, wanted, strerror(err), text);
}

/* The threads made with @attr from here on run on the list's @nth processor. */
static void choose_cpu(pthread_attr_t *attr, const char *list, uint32_t nth)
{
	cpu_set_t set[CLI_MAX_CPUS / CPU_SETSIZE];

	CPU_ZERO_S(sizeof(set), set);
	CPU_SET_S(cli_cpus_nth(list, nth), sizeof(set), set);
	(void)pthread_attr_setaffinity_np(attr, sizeof(set), set);
}

/* Start the threads up to the gate.  Return: how many run. */
static uint32_t start_threads(struct crowd *c)
{
	pthread_attr_t attr;
	uint32_t started;
	int err = 0;

	(void)pthread_attr_init(&attr);
	(void)pthread_attr_setstacksize(&attr, STACK_BYTES);
	for (started = 0; started < c->nr; started++) {
		struct toucher *t = &c->touchers[started];

		t->crowd = c;
		t->index = started;
		t->slow_ns = c->o->design == CLI_KERNEL ? KERNEL_SLOW_NS : SLOW_NS;
		if (c->o->vcpu_cpus)
			choose_cpu(&attr, c->o->vcpu_cpus, started);
		err = pthread_create(&t->thread, &attr, toucher_main, t);
		if (err)
			break;
	}
	(void)pthread_attr_destroy(&attr);
	if (err == EINVAL && c->o->vcpu_cpus)
		cli_error("--vcpu-cpus '%s': this process may not run on processor %u; use others",
			  c->o->vcpu_cpus, cli_cpus_nth(c->o->vcpu_cpus, started));
	else if (err)
		say_no_thread(started, c->nr, err);
	return started;
}

static void gather(const struct crowd *c, struct cli_touch_result *out)
{
	uint64_t first = UINT64_MAX, last = 0;

	for (uint32_t i = 0; i < c->nr; i++) {
		const struct toucher *t = &c->touchers[i];

		fln_histogram_merge(&out->all, &t->all);
		fln_histogram_merge(&out->faulted, &t->faulted);
		fln_histogram_merge(&out->prompt, &t->prompt);
		out->waits_over_10ms += t->waits_over_10ms;
		first = t->first_ticks < first ? t->first_ticks : first;
		last = t->last_ticks > last ? t->last_ticks : last;
	}
	out->seconds = (double)cli_ticks_between_ns(first, last) / 1e9;
}

/* Open the gate, wait for the last touch, and read the usage on both sides. */
static void run(struct crowd *c, struct cli_touch_result *out)
{
	struct cli_progress progress;

	cli_progress_start(&progress, "touching", c->plan->nr_pages * c->o->nr_guests, pages_done,
			   c);
	(void)pthread_mutex_lock(&c->mutex);
	while (c->nr_ready < c->nr)
		(void)pthread_cond_wait(&c->cond, &c->mutex);
	cli_usage_read(&out->from);
	c->open = true;
	(void)pthread_cond_broadcast(&c->cond);
	while (c->nr_finished < c->nr)
		(void)pthread_cond_wait(&c->cond, &c->mutex);
	cli_usage_read(&out->to);
	c->close = true;
	(void)pthread_cond_broadcast(&c->cond);
	(void)pthread_mutex_unlock(&c->mutex);
	cli_progress_stop(&progress);
}

static void abandon(struct crowd *c)
{
	(void)pthread_mutex_lock(&c->mutex);
	c->abandoned = true;
	c->open = true;
	(void)pthread_cond_broadcast(&c->cond);
	(void)pthread_mutex_unlock(&c->mutex);
}

bool cli_touch(const struct cli_options *o, const struct cli_plan *plan, char *const *addrs,
	       struct cli_touch_result *out)
{
	struct crowd *c = calloc(1, sizeof(*c) + o->nr_threads * sizeof(c->touchers[0]));
	uint32_t started;

	memset(out, 0, sizeof(*out));
	if (!c) {
		cli_error("out of memory for %u touching threads", o->nr_threads);
		return false;
	}
	c->o = o;
	c->plan = plan;
	c->addrs = addrs;
	c->nr = o->nr_threads;
	(void)pthread_mutex_init(&c->mutex, NULL);
	(void)pthread_cond_init(&c->cond, NULL);
	started = start_threads(c);
	if (started == c->nr)
		run(c, out);
	else
		abandon(c);
	for (uint32_t i = 0; i < started; i++)
		(void)pthread_join(c->touchers[i].thread, NULL);
	if (started == c->nr)
		gather(c, out);
	(void)pthread_cond_destroy(&c->cond);
	(void)pthread_mutex_destroy(&c->mutex);
	free(c);
	return started == o->nr_threads;
}
