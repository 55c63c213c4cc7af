/* SPDX-License-Identifier: MIT */
/*
 * Waking and commanding the engine's threads: workers and the guard.
 *
 * A kick says that page states have changed; a command hands a shard over or takes it back.
 * Both write the worker's eventfd.  What workers do then is in worker.c.
 *
 * Tested by unit.guard, integration.regions, integration.life_calls.
 */
#include "engine/command.h"

#include "base/lock.h"
#include "engine/state/engine.h"
#include "engine/state/guest.h"
#include "engine/state/worker.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NR_BATCH 64u /* commands, on their caller's stack */

static void ring(struct fln_worker *w)
{
	uint64_t one = 1;

	/*
	 * Fails only if the counter is full, and then it is readable anyway.  A raw system call,
	 * because signal handlers come here, and write() is a cancellation point.
	 */
	(void)syscall(SYS_write, w->event_fd, &one, sizeof(one));
}

void fln_worker_kick(struct fln_worker *w)
{
	if (!atomic_exchange_explicit(&w->kicked, true, memory_order_acq_rel))
		ring(w);
}

void fln_worker_kick_again(struct fln_worker *w)
{
	(void)atomic_exchange_explicit(&w->kicked, true, memory_order_acq_rel);
	ring(w);
}

/* False: the worker has ended and takes no more commands. */
static bool queue_command(struct fln_worker *w, struct fln_command *cmd)
{
	fln_lock(&w->lock);
	if (w->ended) {
		fln_unlock(&w->lock);
		return false;
	}
	/* Commands queued before STOP are obeyed with it; none is queued after it. */
	w->ended = cmd->kind == FLN_COMMAND_STOP;
	cmd->next = w->commands;
	w->commands = cmd;
	fln_unlock(&w->lock);
	ring(w);
	return true;
}

static void wait_until_done(struct fln_worker *w, const struct fln_command *cmd)
{
	fln_lock(&w->lock);
	while (!cmd->done)
		fln_cond_wait(&w->done, &w->lock);
	fln_unlock(&w->lock);
}

int fln_worker_command(struct fln_worker *w, enum fln_command_kind kind, struct fln_shard *shard)
{
	struct fln_command cmd = { .kind = kind, .shard = shard };

	if (!queue_command(w, &cmd))
		return -ESHUTDOWN;
	wait_until_done(w, &cmd);
	return cmd.result;
}

/*
 * Commands that are queued before any of them is waited for: each takes a round of its worker,
 * which may be long, so they must share rounds.
 */
struct batch {
	uint32_t nr;
	struct fln_worker *workers[NR_BATCH];
	struct fln_command commands[NR_BATCH];
};

static void wait_for_batch(struct batch *t)
{
	for (uint32_t i = 0; i < t->nr; i++)
		wait_until_done(t->workers[i], &t->commands[i]);
	t->nr = 0;
}

static void add_to_batch(struct batch *t, struct fln_worker *w, enum fln_command_kind kind,
			 struct fln_shard *shard)
{
	struct fln_command *cmd;

	if (t->nr == NR_BATCH)
		wait_for_batch(t);
	cmd = &t->commands[t->nr];
	*cmd = (struct fln_command){ .kind = kind, .shard = shard };
	t->workers[t->nr] = w;
	t->nr += queue_command(w, cmd);
}

void fln_shards_detach(struct fln_shard *shards, uint32_t nr)
{
	struct batch t = { .nr = 0 };

	for (uint32_t i = 0; i < nr; i++) {
		if (shards[i].worker)
			add_to_batch(&t, shards[i].worker, FLN_COMMAND_DETACH, &shards[i]);
	}
	wait_for_batch(&t);
}

void fln_workers_end_jobs(struct fln_guest *guest)
{
	struct fln_engine *engine = guest->engine;
	struct batch t = { .nr = 0 };

	for (uint32_t i = 0; i < engine->opts.nr_workers; i++)
		/* Any shard names the guest. */
		add_to_batch(&t, &engine->workers[i], FLN_COMMAND_END_JOBS, &guest->shards[0]);
	wait_for_batch(&t);
}

/* The workers that have some of the shards, one bit each. */
static uint64_t workers_of(const struct fln_shard *shards, uint32_t nr)
{
	uint64_t some = 0;

	for (uint32_t i = 0; shards && i < nr; i++) {
		if (shards[i].worker)
			some |= UINT64_C(1) << shards[i].worker->opts.index;
	}
	return some;
}

void fln_guest_pass_workers(struct fln_guest *guest)
{
	uint64_t some = workers_of(guest->shards, guest->nr_shards) |
			workers_of(fln_context_shards(guest), guest->nr_shards);
	struct batch t = { .nr = 0 };

	fln_jobs_look(guest); /* a region is closing or has been added */
	/* One PASS for each worker, however many of the shards it has. */
	for (; some; some &= some - 1) {
		struct fln_worker *w = &guest->engine->workers[__builtin_ctzll(some)];

		fln_worker_kick(w); /* it looks at held faults before it obeys */
		add_to_batch(&t, w, FLN_COMMAND_PASS, NULL);
	}
	wait_for_batch(&t);
}

void fln_jobs_look(struct fln_guest *guest)
{
	struct fln_jobs *jobs = &guest->jobs;

	(void)atomic_fetch_add(&jobs->nr_looks, 1);
	/*
	 * All of this is sequentially consistent: a part that is counted later reads nr_looks
	 * after that, and so has seen this change.  Without parts no worker has to look.
	 */
	if (atomic_load(&jobs->nr_parts) > 0)
		(void)atomic_fetch_add_explicit(&guest->engine->nr_job_looks, 1,
						memory_order_release);
}

void fln_guard_call(struct fln_guard *guard)
{
	fln_lock(&guard->lock);
	guard->called = true;
	(void)pthread_cond_signal(&guard->wake);
	fln_unlock(&guard->lock);
}
