/* SPDX-License-Identifier: MIT */
/*
 * Lifting poison from pages that were discarded, by mapping zeros over it.
 *
 * Poison lies in page tables.  MADV_DONTNEED zaps it; MADV_REMOVE and hole punches take the page
 * out of the page cache and leave the poison.  A touch of such a page raises SIGBUS and queues
 * no fault, so no fault asks for the zeros that are due: the shard's worker maps them as soon as
 * it knows (lift.c says of which pages).
 *
 * It does not matter whether the worker handles a REMOVE event before or after the kernel punches
 * the hole: zeros that are mapped before are zapped by the punch, and the page faults again.  But
 * the discarding thread resumes when the event has been read, and a touch of the page before its
 * poison has been lifted still raises SIGBUS.
 *
 * Tested by unit.populate, unit.serve_random.
 */
#include "engine/unpoison.h"

#include "base/blockmap.h"
#include "base/clock.h"
#include "base/page.h"
#include "base/rcu.h"
#include "engine/block.h"
#include "engine/command.h"
#include "engine/lift.h"
#include "engine/owners.h"
#include "engine/region_map.h"
#include "engine/release_ask.h"
#include "engine/state/engine.h"
#include "engine/state/guest.h"
#include "engine/state/worker.h"
#include "sources/filler.h"
#include "sources/image_poison.h"

#define ROUND_PAGES 512u /* of a region; then faults go first (I7) */
#define WAIT_NS FLN_NS_PER_MS
#define WAIT_ROUNDS 1000u

/* Returns the number of pages tried; sets *left if some must be tried again. */
static uint32_t lift_block(struct fln_shard *shard, struct fln_region *r, uint64_t block,
			   bool *left)
{
	struct fln_block_round b = { .chunk = fln_blockmap_peek(&r->map, block), .block = block };
	struct fln_mask poisoned, present, rest;

	if (!b.chunk)
		return 0;
	poisoned = fln_chunk_load(b.chunk, FLN_PLANE_POISONED);
	poisoned = fln_lift_due(r, block, &poisoned);
	if (fln_mask_empty(&poisoned))
		return 0;
	b.in.shard = shard;
	b.in.region = r;
	b.in.block_page = block * FLN_BLOCK_PAGES;
	b.in.block_addr = fln_region_addr_of(r, b.in.block_page);
	b.in.by_worker = true;
	b.claimed = fln_region_claim_poisoned(b.chunk, &poisoned);
	b.in.faulting = b.claimed;
	fln_block_look(&b);
	fln_block_install(&b, true);
	present = fln_mask_and(&b.claimed, &b.in.present);
	rest = fln_mask_andnot(&b.claimed, &present);
	if (!r->is_private)
		fln_lift_done(b.chunk, &present);
	fln_region_settle(b.chunk, &present, FLN_PAGE_PRESENT);
	fln_region_settle(b.chunk, &rest, FLN_PAGE_POISONED);
	fln_block_collapse(r, block, b.chunk);
	if (!fln_mask_empty(&present))
		fln_release_note(shard); /* poison has kept the block from being released */
	/* A page that another thread had claimed may become POISONED again: it is left, too. */
	rest = fln_mask_andnot(&poisoned, &present);
	rest = fln_mask_andnot(&rest, &b.in.broken);
	rest = fln_mask_andnot(&rest, &b.in.gone);
	*left |= !fln_mask_empty(&rest);
	return fln_mask_count(&poisoned);
}

/* Lift poison in the shard's blocks of a region, within what its image has noted of poison. */
static uint32_t lift_region(struct fln_shard *shard, struct fln_region *r, bool *left)
{
	uint64_t lo, hi, first = r->image_page, nr = fln_bytes_to_pages(r->len_bytes), end;
	uint32_t nr_tried = 0;

	if (!fln_lift_serves(r) || r->in_context != shard->in_context ||
	    atomic_load_explicit(&r->closing, memory_order_acquire) ||
	    !fln_image_poison(r->image, &lo, &hi) || lo >= first + nr || hi <= first)
		return 0;
	lo = (lo > first ? lo - first : 0) + r->map.lead_pages;
	end = (hi < first + nr ? hi - first : nr) + r->map.lead_pages;
	for (uint64_t block = lo / FLN_BLOCK_PAGES; block * FLN_BLOCK_PAGES < end; block++) {
		uint64_t addr = fln_region_addr_of(r, block * FLN_BLOCK_PAGES);

		if (fln_region_shard_at(r, addr > r->addr ? addr : r->addr) != shard)
			continue;
		nr_tried += lift_block(shard, r, block, left);
		if (nr_tried >= ROUND_PAGES) {
			*left = true;
			break;
		}
	}
	return nr_tried;
}

static bool lift_shard(struct fln_shard *shard)
{
	const struct fln_directory *d;
	bool left = false;

	fln_rcu_read_lock();
	d = atomic_load_explicit(&shard->guest->directory, memory_order_acquire);
	for (uint32_t i = 0; d && i < d->nr; i++)
		(void)lift_region(shard, d->regions[i], &left);
	fln_rcu_read_unlock();
	return left;
}

void fln_unpoison_round(struct fln_worker *w)
{
	bool left = false;
	uint64_t nr;

	if (!w->opts.filler)
		return;
	nr = atomic_load_explicit(&w->opts.filler->nr_lifts, memory_order_acquire);
	if (nr == w->nr_lifts && !atomic_load_explicit(&w->lifts_left, memory_order_relaxed))
		return;
	w->nr_lifts = nr;
	for (struct fln_shard *s = w->shards; s; s = s->next_of_worker)
		left |= lift_shard(s);
	atomic_store_explicit(&w->lifts_left, left, memory_order_release);
}

void fln_unpoison_wait(struct fln_engine *engine)
{
	for (uint32_t i = 0; engine->workers && i < engine->opts.nr_workers; i++) {
		struct fln_worker *w = &engine->workers[i];

		for (uint32_t n = 0; n < WAIT_ROUNDS; n++) {
			/* Commands come last in a round: its attempts have been made by then. */
			if (fln_worker_command(w, FLN_COMMAND_PASS, NULL) != 0 ||
			    !atomic_load_explicit(&w->lifts_left, memory_order_acquire))
				break;
			fln_sleep_ns(WAIT_NS);
		}
	}
}
