/* SPDX-License-Identifier: MIT */
/*
 * Waking and commanding the engine's threads: workers and the guard.
 *
 * A kick says that pages have changed, a command hands a shard over or takes it back; both
 * ring the worker's eventfd. None of it depends on what these threads do with it.
 */
#include "engine/command.h"

#include "base/lock.h"
#include "engine/state/engine.h"
#include "engine/state/guest.h"
#include "engine/state/worker.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <unistd.h>

static void ring(struct fln_worker *w)
{
	uint64_t one = 1;

	/*
	 * Fails only when the counter is full: then it is readable anyway.  Also called in
	 * signal handlers, where write() would be one place too many to be cancelled at.
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

int fln_worker_command(struct fln_worker *w, enum fln_command_kind kind, struct fln_shard *shard)
{
	struct fln_command cmd = { .kind = kind, .shard = shard };

	fln_lock(&w->lock);
	if (w->ended) {
		fln_unlock(&w->lock);
		return -ESHUTDOWN;
	}
	/* What came before STOP is obeyed with it; nothing comes after. */
	w->ended = kind == FLN_COMMAND_STOP;
	cmd.next = w->commands;
	w->commands = &cmd;
	fln_unlock(&w->lock);
	ring(w);
	fln_lock(&w->lock);
	while (!cmd.done)
		fln_cond_wait(&w->done, &w->lock);
	fln_unlock(&w->lock);
	return cmd.result;
}

/* A bit for each worker that has shards of an array. */
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

	fln_jobs_look(guest); /* a region closes, or is a new one */
	/* Once each, however many shards they have. */
	for (; some; some &= some - 1) {
		struct fln_worker *w = &guest->engine->workers[__builtin_ctzll(some)];

		fln_worker_kick(w); /* look at what you hold, then pass */
		(void)fln_worker_command(w, FLN_COMMAND_PASS, NULL);
	}
}

void fln_jobs_look(struct fln_guest *guest)
{
	(void)atomic_fetch_add_explicit(&guest->jobs.nr_looks, 1, memory_order_release);
}

void fln_guard_call(struct fln_guard *guard)
{
	fln_lock(&guard->lock);
	guard->called = true;
	(void)pthread_cond_signal(&guard->wake);
	fln_unlock(&guard->lock);
}
