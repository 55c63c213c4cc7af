/* SPDX-License-Identifier: MIT */
/*
 * A pool of threads that start work together.
 *
 * Working threads wait on one futex, the gate; idle ones on another, the park, so that work
 * for four threads does not wake two hundred.  A mutex or condition variable would release
 * the threads one by one.
 *
 * The gate's own cost is not measured: threads read their clocks after passing it.
 */
#include "measure/crowd.h"

#include "measure/clock.h"
#include "measure/cpus.h"
#include "measure/error.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define STACK_BYTES (256u << 10)

enum step {
	STEP_PREPARE,
	STEP_RUN,
	STEP_FINISH,
};

struct member {
	struct measure_crowd *crowd;
	pthread_t thread;
	uint32_t index;
	_Atomic uint32_t seen; /* the gate's value when this thread last passed it */
	_Atomic pid_t tid;
	bool prepared;
	uint64_t first_ticks;
	uint64_t last_ticks;
	uint64_t cpu_ns;
	uint64_t nr_switches;
};

struct measure_crowd {
	_Atomic uint32_t gate;
	_Atomic uint32_t park;
	_Atomic uint32_t nr_active;
	_Atomic uint32_t nr_busy;
	_Atomic bool end;
	enum step step; /* changes only while nr_busy is 0, as does work */
	const struct measure_work *work;
	uint32_t nr;
	uint32_t capacity; /* of members and tids */
	struct member **members;
	pid_t *tids;
	bool pinned; /* some member's affinity differs from the process's */
	size_t set_bytes;
	cpu_set_t *all; /* the process's affinity */
};

static void futex_wait(_Atomic uint32_t *word, uint32_t value)
{
	(void)syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}

static void futex_wake_all(_Atomic uint32_t *word)
{
	(void)syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

/* Wait until there is a step to take.  Return: false when the crowd is destroyed. */
static bool wait_for_step(struct member *m)
{
	struct measure_crowd *c = m->crowd;

	for (;;) {
		uint32_t park = atomic_load(&c->park);
		uint32_t gate = atomic_load(&c->gate);

		if (atomic_load(&c->end))
			return false;
		if (m->index >= atomic_load(&c->nr_active)) {
			futex_wait(&c->park, park);
			continue;
		}
		/*
		 * Compare for newer, not for different: a member that is preempted between these
		 * loads while it becomes active holds an older value of the gate.
		 */
		if ((int32_t)(gate - atomic_load(&m->seen)) > 0) {
			atomic_store(&m->seen, gate);
			return true;
		}
		futex_wait(&c->gate, gate);
	}
}

static uint64_t own_cpu_ns(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static uint64_t own_switches(void)
{
	struct rusage usage;

	(void)getrusage(RUSAGE_THREAD, &usage);
	return (uint64_t)usage.ru_nvcsw;
}

static void run_measured(struct member *m)
{
	const struct measure_work *work = m->crowd->work;
	uint64_t switches = own_switches();
	uint64_t cpu_ns = own_cpu_ns();

	m->first_ticks = measure_ticks();
	work->run(work->ctx, m->index);
	m->last_ticks = measure_ticks();
	m->cpu_ns = own_cpu_ns() - cpu_ns;
	m->nr_switches = own_switches() - switches;
}

static void take_step(struct member *m)
{
	const struct measure_work *work = m->crowd->work;

	switch (m->crowd->step) {
	case STEP_PREPARE:
		m->prepared = !work->prepare || work->prepare(work->ctx, m->index);
		break;
	case STEP_RUN:
		run_measured(m);
		break;
	case STEP_FINISH:
		if (m->prepared && work->finish)
			work->finish(work->ctx, m->index);
		break;
	}
}

static void *member_main(void *arg)
{
	struct member *m = arg;
	struct measure_crowd *c = m->crowd;

	atomic_store(&m->tid, (pid_t)syscall(SYS_gettid));
	while (wait_for_step(m)) {
		take_step(m);
		if (atomic_fetch_sub(&c->nr_busy, 1) == 1)
			futex_wake_all(&c->nr_busy);
	}
	return NULL;
}

/* Have all active members take one step, and wait for them. */
static void run_step(struct measure_crowd *c, enum step step)
{
	uint32_t busy = atomic_load(&c->nr_active);

	c->step = step;
	atomic_store(&c->nr_busy, busy);
	atomic_fetch_add(&c->gate, 1);
	futex_wake_all(&c->gate);
	while ((busy = atomic_load(&c->nr_busy)) != 0)
		futex_wait(&c->nr_busy, busy);
}

struct measure_crowd *measure_crowd_create(void)
{
	struct measure_crowd *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->set_bytes = CPU_ALLOC_SIZE(MEASURE_MAX_CPUS);
	c->all = CPU_ALLOC(MEASURE_MAX_CPUS);
	if (!c->all) {
		free(c);
		return NULL;
	}
	CPU_ZERO_S(c->set_bytes, c->all);
	(void)sched_getaffinity(0, c->set_bytes, c->all);
	return c;
}

void measure_crowd_destroy(struct measure_crowd *c)
{
	if (!c)
		return;
	atomic_store(&c->end, true);
	atomic_fetch_add(&c->gate, 1);
	atomic_fetch_add(&c->park, 1);
	futex_wake_all(&c->gate);
	futex_wake_all(&c->park);
	for (uint32_t i = 0; i < c->nr; i++) {
		(void)pthread_join(c->members[i]->thread, NULL);
		free(c->members[i]);
	}
	free(c->members);
	free(c->tids);
	CPU_FREE(c->all);
	free(c);
}

static void report_thread_failure(uint32_t started, uint32_t wanted, int err)
{
	struct rlimit limit = { .rlim_cur = RLIM_INFINITY };
	char text[64] = "";

	(void)getrlimit(RLIMIT_NPROC, &limit);
	if (limit.rlim_cur != RLIM_INFINITY)
		(void)snprintf(text, sizeof(text), ", now %llu",
			       (unsigned long long)limit.rlim_cur);
	measure_error("only %u of --threads %u could be started: %s; raise the process limit "
		      "(ulimit -u%s), the container's pids.max or kernel.threads-max, or use fewer",
		      started, wanted, strerror(err), text);
}

static bool reserve(struct measure_crowd *c, uint32_t nr)
{
	struct member **members;
	pid_t *tids;

	if (nr <= c->capacity)
		return true;
	members = realloc(c->members, nr * sizeof(struct member *));
	if (members)
		c->members = members;
	tids = realloc(c->tids, (nr + 1) * sizeof(*tids)); /* one for the caller */
	if (tids)
		c->tids = tids;
	if (members && tids) {
		c->capacity = nr;
		return true;
	}
	measure_error("out of memory for %u threads", nr);
	return false;
}

/* Grow the crowd to at least @nr members; new ones wait in the park. */
static bool grow(struct measure_crowd *c, uint32_t nr)
{
	pthread_attr_t attr;
	int err = 0;

	if (!reserve(c, nr))
		return false;
	(void)pthread_attr_init(&attr);
	(void)pthread_attr_setstacksize(&attr, STACK_BYTES);
	while (c->nr < nr && !err) {
		struct member *m = calloc(1, sizeof(*m));

		err = m ? 0 : ENOMEM;
		if (m) {
			m->crowd = c;
			m->index = c->nr;
			err = pthread_create(&m->thread, &attr, member_main, m);
		}
		if (err)
			free(m);
		else
			c->members[c->nr++] = m;
	}
	(void)pthread_attr_destroy(&attr);
	if (err)
		report_thread_failure(c->nr, nr, err);
	return err == 0;
}

static bool set_affinities(struct measure_crowd *c, uint32_t nr, const char *cpus)
{
	cpu_set_t *set;
	uint32_t i = 0;
	int err = 0;

	if (!cpus && !c->pinned)
		return true;
	set = CPU_ALLOC(MEASURE_MAX_CPUS);
	for (; set && i < nr && !err; i++) {
		CPU_ZERO_S(c->set_bytes, set);
		if (cpus)
			CPU_SET_S(measure_cpus_nth(cpus, i), c->set_bytes, set);
		else
			CPU_OR_S(c->set_bytes, set, set, c->all);
		err = pthread_setaffinity_np(c->members[i]->thread, c->set_bytes, set);
	}
	CPU_FREE(set);
	c->pinned = true;
	if (!err)
		return true;
	if (cpus)
		measure_error(
			"processor list '%s': this process may not run on processor %u; use others",
			cpus, measure_cpus_nth(cpus, i - 1));
	else
		measure_error("cannot unpin the threads: %s", strerror(err));
	return false;
}

/* Set the number of members that work from now on. */
static void activate(struct measure_crowd *c, uint32_t nr)
{
	uint32_t before = atomic_load(&c->nr_active);

	for (uint32_t i = before; i < nr; i++)
		atomic_store(&c->members[i]->seen, atomic_load(&c->gate));
	atomic_store(&c->nr_active, nr);
	atomic_fetch_add(&c->park, 1);
	if (nr > before)
		futex_wake_all(&c->park);
}

static void read_tasks(struct measure_crowd *c, uint32_t nr, struct measure_task *members,
		       struct measure_task *others)
{
	memset(members, 0, sizeof(*members));
	memset(others, 0, sizeof(*others));
	for (uint32_t i = 0; i < c->nr; i++) {
		c->tids[i] = atomic_load(&c->members[i]->tid);
		if (i < nr)
			measure_task_add(c->tids[i], members);
	}
	c->tids[c->nr] = (pid_t)syscall(SYS_gettid);
	measure_tasks_add_others(c->tids, c->nr + 1, others);
}

static void subtract(struct measure_task *to, const struct measure_task *from)
{
	to->cpu_ns -= from->cpu_ns < to->cpu_ns ? from->cpu_ns : to->cpu_ns;
	to->wait_ns -= from->wait_ns < to->wait_ns ? from->wait_ns : to->wait_ns;
	to->nr_switches -=
		from->nr_switches < to->nr_switches ? from->nr_switches : to->nr_switches;
}

static void gather(struct measure_crowd *c, uint32_t nr, struct measure_crowd_result *out)
{
	uint64_t first = UINT64_MAX, last = 0;

	/* The members' own readings, taken after the gate, are more precise. */
	out->touchers.cpu_ns = 0;
	out->touchers.nr_switches = 0;
	for (uint32_t i = 0; i < nr; i++) {
		const struct member *m = c->members[i];

		first = m->first_ticks < first ? m->first_ticks : first;
		last = m->last_ticks > last ? m->last_ticks : last;
		out->touchers.cpu_ns += m->cpu_ns;
		out->touchers.nr_switches += m->nr_switches;
	}
	out->seconds = (double)measure_ticks_between_ns(first, last) / 1e9;
}

static void run(struct measure_crowd *c, uint32_t nr, struct measure_crowd_result *out)
{
	struct measure_task touchers, others;

	read_tasks(c, nr, &touchers, &others);
	measure_usage_read(&out->from);
	run_step(c, STEP_RUN);
	measure_usage_read(&out->to);
	read_tasks(c, nr, &out->touchers, &out->others);
	subtract(&out->touchers, &touchers);
	subtract(&out->others, &others);
	gather(c, nr, out);
}

bool measure_crowd_run(struct measure_crowd *c, uint32_t nr, const char *cpus,
		       const struct measure_work *work, struct measure_crowd_result *out)
{
	bool ok = true;

	memset(out, 0, sizeof(*out));
	if (!grow(c, nr) || !set_affinities(c, nr, cpus))
		return false;
	c->work = work;
	activate(c, nr);
	run_step(c, STEP_PREPARE);
	for (uint32_t i = 0; i < nr; i++)
		ok = ok && c->members[i]->prepared;
	if (ok)
		run(c, nr, out);
	run_step(c, STEP_FINISH);
	return ok;
}
