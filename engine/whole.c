/* SPDX-License-Identifier: MIT */
/*
 * Faults that threads resolve in their own context: their counters, and the collapse of blocks
 * that have become whole.
 *
 * Tested by unit.resolve.
 */
#include "engine/whole.h"

#include "base/blockmap.h"
#include "base/clock.h"
#include "base/histogram.h"
#include "base/page.h"
#include "base/rcu.h"
#include "engine/block.h"
#include "engine/directory.h"
#include "engine/state/guest.h"

#include <stdatomic.h>
#include <stdbool.h>

static void collapse_at(struct fln_shard *shard, uint64_t addr)
{
	struct fln_region *r = fln_directory_find(shard->guest, addr);
	struct fln_chunk *c;
	uint64_t block;

	if (!r || !r->in_context)
		return; /* the region was removed meanwhile */
	block = fln_region_page_of(r, addr) / FLN_BLOCK_PAGES;
	c = fln_blockmap_peek(&r->map, block);
	if (c)
		fln_block_collapse(r, block, c);
}

void fln_context_collapse(struct fln_shard *shard)
{
	struct fln_whole_blocks *t = &shard->whole;

	/* First: a block that is noted from here on is counted anew. */
	atomic_store_explicit(&t->nr, 0, memory_order_relaxed);
	for (uint32_t i = 0; i < FLN_NR_WHOLE; i++) {
		uint64_t addr = atomic_exchange_explicit(&t->addr[i], 0, memory_order_acquire);

		if (addr == 0)
			continue;
		fln_rcu_read_lock();
		collapse_at(shard, addr);
		fln_rcu_read_unlock();
	}
}

bool fln_context_collapse_due(struct fln_shard *shards, bool due)
{
	bool left = false;

	for (struct fln_shard *s = shards; s; s = s->next_in_context) {
		struct fln_whole_blocks *t = &s->whole;
		uint32_t nr = atomic_load_explicit(&t->nr, memory_order_relaxed);

		if (nr == 0)
			continue;
		if (due || nr >= FLN_NR_WHOLE / 2 ||
		    atomic_exchange_explicit(&t->hurry, false, memory_order_relaxed))
			fln_context_collapse(s);
		else
			left = true;
	}
	return left;
}

void fln_context_begin_fault(struct fln_shard *shard)
{
	fln_count(&shard->count.faults, 1);
	fln_count(&shard->count.in_context, 1);
}

void fln_context_end_fault(struct fln_shard *shard, struct fln_context_ending ending,
			   uint64_t t0_ns)
{
	struct fln_shard_counters *c = &shard->count;

	fln_count(ending.failed   ? &c->invalid
		  : ending.zero   ? &c->zero
		  : ending.waited ? &c->major
				  : &c->minor,
		  1);
	fln_count(ending.failed ? &c->failed : ending.poisoned ? &c->poisoned : &c->resumed, 1);
	fln_histogram_record_shared(&c->service, fln_now_ns() - t0_ns);
}
