/* SPDX-License-Identifier: MIT */
/*
 * Asking workers to look for blocks that can be released.
 *
 * Tested by unit.release, unit.release_waits, integration.release.
 */
#include "engine/release_ask.h"

#include "base/clock.h"
#include "base/lock.h"
#include "engine/command.h"
#include "engine/state/guest.h"
#include "engine/state/worker.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

/* From a note to the look: more of them come. */
#define TOGETHER_NS (5 * FLN_NS_PER_MS)

void fln_guest_release_init(struct fln_guest_release *release)
{
	fln_lock_init(&release->lock, FLN_RANK_LEAF);
	fln_cond_init(&release->passed);
}

void fln_guest_release_deinit(struct fln_guest_release *release)
{
	(void)pthread_cond_destroy(&release->passed);
	fln_lock_deinit(&release->lock);
}

void fln_release_note(struct fln_shard *shard)
{
	struct fln_worker *w = shard->worker;

	(void)atomic_fetch_add_explicit(&shard->guest->release.nr_looks, 1, memory_order_release);
	/* A thread that closes a region reads events, too, of shards without a worker. */
	if (w && w->release.wanted && w->release.at_ns == UINT64_MAX)
		w->release.at_ns = fln_now_ns() + TOGETHER_NS;
}

/* Each worker once, however many of the shards it has: @asked has a bit for each. */
static void ask_workers(struct fln_shard *shards, uint32_t nr, uint64_t *asked)
{
	for (uint32_t i = 0; shards && i < nr; i++) {
		struct fln_worker *w = shards[i].worker;

		if (!w || ((*asked >> w->opts.index) & 1))
			continue;
		*asked |= UINT64_C(1) << w->opts.index;
		atomic_store_explicit(&w->release_asked, true, memory_order_release);
		fln_worker_kick(w);
	}
}

void fln_release_ask_workers(struct fln_guest *guest)
{
	uint64_t asked = 0;

	ask_workers(guest->shards, guest->nr_shards, &asked);
	ask_workers(fln_context_shards(guest), guest->nr_shards, &asked);
}

void fln_release_look_now(struct fln_guest *guest)
{
	(void)atomic_fetch_add_explicit(&guest->release.nr_looks, 1, memory_order_release);
	fln_release_ask_workers(guest);
}
