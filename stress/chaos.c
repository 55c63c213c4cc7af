/* SPDX-License-Identifier: MIT */
/*
 * Injected trouble: a thread per kind, which takes a step from time to time.
 *
 * Steps read-lock the world; a step that stops the guest write-locks it.  All random choices
 * follow from the seed and the number of the step, so the same seed repeats each kind's steps,
 * but not their timing.
 */
#include "stress/chaos.h"

#include "stress/chaos_addresses.h"
#include "stress/chaos_crowd.h"
#include "stress/chaos_discard.h"
#include "stress/chaos_emulated.h"
#include "stress/chaos_host.h"
#include "stress/chaos_limits.h"
#include "stress/chaos_neighbours.h"
#include "stress/chaos_owed.h"
#include "stress/chaos_regions.h"
#include "stress/chaos_release.h"
#include "stress/collapse.h"
#include "stress/complain.h"
#include "stress/gate.h"
#include "stress/memory.h"
#include "stress/stage.h"
#include "stress/stress.h"
#include "stress/task.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

typedef bool (*chaos_fn)(struct stress *s, struct rng *rng);

static char *base_of(struct stress *s)
{
	return atomic_load(&s->base);
}

/* A child must not have the guest's memory, and the parent must not be affected. */
static bool chaos_fork(struct stress *s, struct rng *rng)
{
	char *base = base_of(s);
	int status = 0;
	pid_t child;

	(void)rng;
	child = fork();
	if (child < 0)
		return false;
	if (child == 0) {
		unsigned char vec;

		_exit(mincore(base, PAGE_BYTES, &vec) != 0 && errno == ENOMEM ? 0 : 3);
	}
	if (waitpid(child, &status, 0) != child || !WIFEXITED(status) || WEXITSTATUS(status) != 0) {
		complain(s, "a forked child ended with status 0x%x (it has the guest's memory?)",
			 (unsigned)status);
		return false;
	}
	return true;
}

/*
 * With threads that touch, as faults are to be in flight.  Where these leave the steps of
 * others no processor they have to wait until those have ended.
 */
static void take_world(struct stress *s)
{
	struct timespec until;

	(void)clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 1;
	if (pthread_rwlock_timedwrlock(&s->world, &until) == 0)
		return;
	gate_close_begin(s);
	(void)pthread_rwlock_wrlock(&s->world);
	gate_open(s);
	sleep_ms(20);
}

static bool chaos_restart(struct stress *s, struct rng *rng)
{
	struct restart how;
	bool ok;

	turn_take(s);
	stage_begin(stage_waits_others);
	take_world(s);
	how.engine_too = rng_below(rng, 4) == 0;
	how.new_image = rng_below(rng, 2) == 0;
	how.open = rng_below(rng, 2) == 0;
	ok = memory_restart(s, &how) == 0;
	if (!ok) {
		complain(s, "restart failed; nothing serves the memory any more");
		atomic_store(&s->stop, true);
	}
	(void)pthread_rwlock_unlock(&s->world);
	turn_give(s);
	return ok;
}

static bool chaos_signals(struct stress *s, struct rng *rng)
{
	for (uint32_t i = 0; i < 16; i++) {
		uint64_t n = rng_below(rng, s->opts.nr_threads);

		/* A signal makes a thread fault again, which would hide a lost wake: some get none. */
		if (n % 4)
			(void)pthread_kill(s->touchers[n].thread, SIGUSR1);
	}
	return true;
}

/* The library refuses blocks that have holes or are not wholly mapped. */
static bool chaos_huge(struct stress *s, struct rng *rng)
{
	uint64_t block = rng_below(rng, s->opts.memory_bytes / HUGE_BYTES), nr = 0;

	if (rng_below(rng, 2))
		return collapse_elsewhere(s, block * HUGE_PAGES);
	return fln_guest_collapse(s->guest, (uint64_t)(uintptr_t)base_of(s) + block * HUGE_BYTES,
				  HUGE_BYTES, &nr) == 0 &&
	       nr > 0;
}

static const struct {
	chaos_fn step; /* NULL: no thread, done elsewhere */
	uint32_t pause_ms;
	bool alone; /* locks the world itself */
} kinds[CHAOS_NR] = {
	[CHAOS_DISCARD] = { chaos_discard, 0, false },
	[CHAOS_FORK] = { chaos_fork, 200, false },
	[CHAOS_REMAP] = { chaos_remap, 50, false },
	[CHAOS_UNMAP] = { chaos_unmap, 50, false },
	[CHAOS_REGIONS] = { chaos_regions, 10, false },
	[CHAOS_RESTART] = { chaos_restart, 1500, true },
	[CHAOS_SIGNALS] = { chaos_signals, 1, false },
	[CHAOS_STALL] = { chaos_stall, 100, false },
	[CHAOS_DESCRIPTORS] = { chaos_descriptors, 500, false },
	[CHAOS_MAPPINGS] = { chaos_mappings, 1000, false },
	[CHAOS_MEMORY] = { chaos_memory, 1000, false },
	[CHAOS_CONVERGENCE] = { chaos_convergence, 300, true },
	[CHAOS_STAMPEDE] = { chaos_stampede, 20, true },
	[CHAOS_HUGE] = { chaos_huge, 30, false },
	[CHAOS_EMULATED] = { chaos_emulated, 100, false },
	[CHAOS_PAUSE] = { chaos_pause, 1000, true },
	[CHAOS_HOST] = { chaos_host, 200, false },
	[CHAOS_NEIGHBOURS] = { chaos_neighbours, 100, false },
	[CHAOS_OWED] = { chaos_owed, 100, false },
	[CHAOS_ADDRESSES] = { chaos_addresses, 1, false },
	[CHAOS_FOREIGN] = { chaos_foreign, 100, false },
	[CHAOS_RELEASE] = { chaos_release, 500, false },
};

struct chaos_thread {
	struct stress *s;
	enum chaos_kind kind;
	pthread_t thread;
	bool started;
	_Atomic bool ended;
};

static struct chaos_thread threads[CHAOS_NR];

/* With random layouts a restart may draw another layout, so there are more restarts. */
static uint32_t pause_of(const struct chaos_thread *t)
{
	uint32_t ms = kinds[t->kind].pause_ms;

	return t->kind == CHAOS_RESTART && t->s->opts.random_layout ? ms / 4 : ms;
}

static void *chaos_main(void *arg)
{
	struct chaos_thread *t = arg;
	struct stress *s = t->s;
	uint64_t seed = mix(s->opts.seed ^ mix(0xc4a05 + (uint64_t)t->kind)), n = 0;
	int entered = s->opts.in_context ? fln_thread_enter() : -1;

	stage_thread(t->kind);
	task_raise_priority();
	while (!atomic_load(&s->stop)) {
		/* From the number of the step, whatever the steps before have drawn. */
		struct rng rng = { mix(seed ^ n++) };
		bool done;

		for (uint64_t left = 1 + rng_below(&rng, pause_of(t) * 2 + 1);
		     left > 0 && !atomic_load(&s->stop); left -= left < 20 ? left : 20)
			sleep_ms(left < 20 ? left : 20);
		if (!kinds[t->kind].alone)
			(void)pthread_rwlock_rdlock(&s->world);
		stage_begin(NULL);
		done = !atomic_load(&s->stop) && kinds[t->kind].step(s, &rng);
		stage_end();
		if (!kinds[t->kind].alone)
			(void)pthread_rwlock_unlock(&s->world);
		if (done)
			atomic_fetch_add_explicit(&s->nr_chaos[t->kind], 1, memory_order_relaxed);
	}
	if (entered == 0)
		fln_thread_leave();
	atomic_store(&t->ended, true);
	return NULL;
}

bool chaos_ended(void)
{
	for (enum chaos_kind k = 0; k < CHAOS_NR; k++) {
		if (threads[k].started && !atomic_load(&threads[k].ended))
			return false;
	}
	return true;
}

/* Prepare a kind.  Return: why it is left out here, or NULL. */
static const char *prepare(struct stress *s, enum chaos_kind kind)
{
	switch (kind) {
	case CHAOS_EMULATED:
		return s->opts.kvm ? NULL : "only vCPUs have emulated instructions";
	case CHAOS_REMAP:
		return s->opts.huge ? "mremap() moves huge pages only as whole mappings" : NULL;
	case CHAOS_HUGE:
		return s->opts.huge ? "the pages are large already" : NULL;
	case CHAOS_HOST:
		return chaos_host_prepare(s);
	case CHAOS_NEIGHBOURS:
	case CHAOS_FOREIGN:
		return chaos_neighbours_prepare(s);
	default:
		return chaos_limits_prepare(s, kind);
	}
}

void chaos_prepare(struct stress *s)
{
	for (enum chaos_kind k = 0; k < CHAOS_NR; k++) {
		const char *why = has_chaos(&s->opts, k) ? prepare(s, k) : NULL;

		if (!why)
			continue;
		(void)fprintf(s->messages, "chaos %s is left out: %s\n", chaos_names[k], why);
		s->opts.chaos &= ~(1u << k);
	}
}

int chaos_start(struct stress *s)
{
	for (enum chaos_kind k = 0; k < CHAOS_NR; k++) {
		if (!has_chaos(&s->opts, k) || !kinds[k].step)
			continue;
		threads[k].s = s;
		threads[k].kind = k;
		if (pthread_create(&threads[k].thread, NULL, chaos_main, &threads[k]) != 0) {
			(void)fprintf(stderr, "faultlane-stress: no thread for %s\n",
				      chaos_names[k]);
			return -EAGAIN;
		}
		threads[k].started = true;
	}
	return 0;
}

void chaos_stop(void)
{
	for (enum chaos_kind k = 0; k < CHAOS_NR; k++) {
		if (threads[k].started)
			(void)pthread_join(threads[k].thread, NULL);
		threads[k].started = false;
	}
}
