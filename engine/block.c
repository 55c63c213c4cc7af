/* SPDX-License-Identifier: MIT */
/*
 * One round of work on a block of 2 MiB: claim pages, ask the image, install, settle.
 *
 * The map is a hint.  A page that a thread waits for is installed again whatever the map says:
 * if it is mapped the call fails with EEXIST, and the thread is woken; if it was zapped the call
 * maps it.
 *
 * Tested by unit.serve, unit.serve_blocks, unit.resolve.
 */
#include "engine/block.h"

#include "base/blockmap.h"
#include "base/error.h"
#include "base/page.h"
#include "base/plant.h"
#include "base/rcu.h"
#include "engine/block_policy.h"
#include "engine/command.h"
#include "engine/density.h"
#include "engine/directory.h"
#include "engine/event_queue.h"
#include "engine/install.h"
#include "engine/lift.h"
#include "engine/region_map.h"
#include "engine/release_ask.h"
#include "engine/release_case.h"
#include "engine/state/advised.h"
#include "engine/state/engine.h"
#include "engine/state/guest.h"
#include "engine/state/worker.h"
#include "engine/strays.h"
#include "engine/uffd.h"
#include "engine/window.h"
#include "sources/folio.h"
#include "sources/image.h"
#include "sources/image_cache.h"
#include "sources/image_ready.h"

#include <faultlane/advice.h>
#include <faultlane/base.h>
#include <faultlane/event.h>
#include <stdatomic.h>
#include <stdbool.h>

/*
 * ZERO in the image means that the page must not be read from the source.  The cache may have a
 * page there all the same, written through a shared mapping.  In a shared region ZEROPAGE finds
 * such a page; in a private one it would hide the page, so the cache is asked.
 */
static void find_cached(struct fln_block_round *b)
{
	const struct fln_region *r = b->in.region;
	struct fln_mask look = fln_mask_and(&b->zero, &b->claimed);
	uint32_t lo = 0, hi;

	for (; fln_mask_next_run(&look, &lo, &hi); lo = hi) {
		while (lo < hi) {
			uint64_t page = fln_region_image_page(r, b->in.block_page + lo);
			uint32_t nr = fln_image_hole(r->image, page, hi - lo);

			if (nr == 0) {
				fln_mask_clear(&b->zero, lo);
				fln_mask_set(&b->filled, lo);
				nr = 1;
			}
			lo += nr;
		}
	}
}

/*
 * Holes in large folios are zeros in the page cache, which CONTINUE maps with what is around them.
 * A foreign region's are left to ZEROPAGE, which takes no memory.
 */
static void take_zeros_of_folios(struct fln_block_round *b, uint32_t lead)
{
	const struct fln_region *r = b->in.region;
	struct fln_mask cached = fln_folio_pages(&r->image->folios,
						 fln_region_image_page(r, b->in.block_page + lead),
						 FLN_BLOCK_PAGES - lead);

	cached = fln_mask_up(&cached, lead);
	if (fln_planted(FLN_BUG_HOLE_IN_FOLIO))
		b->filled = fln_mask_or(&b->filled, &cached);
	cached = fln_mask_and(&cached, &b->zero);
	b->filled = fln_mask_or(&b->filled, &cached);
	b->zero = fln_mask_andnot(&b->zero, &cached);
	b->zero_cached = cached;
}

void fln_block_look(struct fln_block_round *b)
{
	const struct fln_region *r = b->in.region;
	uint32_t lead = b->block == 0 ? r->map.lead_pages : 0;
	struct fln_mask discarded;

	fln_rcu_assert_reading();
	fln_image_ready(r->image, fln_region_image_page(r, b->in.block_page + lead),
			FLN_BLOCK_PAGES - lead, &b->filled, &b->zero);
	b->filled = fln_mask_up(&b->filled, lead);
	b->zero = fln_mask_up(&b->zero, lead);
	/* Discarded in private or foreign memory: zeros are due, not the image's contents. */
	discarded = b->chunk ? fln_chunk_load(b->chunk, FLN_PLANE_DISCARDED)
			     : fln_blockmap_load(&r->map, FLN_PLANE_DISCARDED, b->block);
	b->filled = fln_mask_andnot(&b->filled, &discarded);
	b->zero = fln_mask_andnot(&b->zero, &discarded);
	if (!r->foreign)
		take_zeros_of_folios(b, lead);
	if (r->is_private)
		find_cached(b);
	b->zero = fln_mask_or(&b->zero, &discarded);
}

static bool maps_little(const struct fln_block_round *b)
{
	struct fln_block_case c;

	if (b->in.region->release != FLN_RELEASE_AUTO)
		return false;
	c = fln_release_case(b->in.region, b->block);
	return fln_policy_maps_little(&c);
}

/*
 * The window of one fault of a block that has had @seen faults before.  *there: the block's pages
 * that are mapped or about to be.
 */
static struct fln_window window_for(const struct fln_block_round *b, const struct fln_fault *fault,
				    uint32_t page, uint32_t seen, struct fln_mask *there)
{
	struct fln_guest *guest = b->in.shard->guest;
	struct fln_window win = { page, page + 1 };

	if (b->advice == FLN_ADVICE_SEQUENTIAL) {
		win.lo = (uint32_t)fln_align_down(page, FLN_FRONT_PAGES);
		win.hi = FLN_BLOCK_PAGES;
	} else if (b->advice != FLN_ADVICE_RANDOM && guest->density) {
		if (!fault->kept)
			fln_density_note(guest->density, b->in.block_addr, page, there);
		win = fln_density_window(guest->density, b->in.block_addr, page);
		fln_mask_set_range(there, win.lo, win.hi);
	} else if (b->advice != FLN_ADVICE_RANDOM && maps_little(b)) {
		win.lo = (uint32_t)fln_align_down(page, FLN_CONTROL_PAGES);
		win.hi = win.lo + FLN_CONTROL_PAGES;
	} else if (b->advice != FLN_ADVICE_RANDOM) {
		win = fln_window_for(&guest->window, seen, page);
	}
	return win;
}

/* Open the windows of the block's faults.  Returns what to map now; all of it is in b->later. */
static struct fln_mask open_windows(struct fln_block_round *b, const struct fln_fault *faults,
				    uint32_t nr, const uint32_t *pages)
{
	struct fln_mask there = fln_chunk_load(b->chunk, FLN_PLANE_PRESENT);
	struct fln_mask now = { { 0 } };
	uint32_t seen = atomic_load_explicit(&b->chunk->nr_faults, memory_order_relaxed);

	for (uint32_t i = 0; i < nr; i++) {
		struct fln_window win = window_for(b, &faults[i], pages[i], seen, &there);

		if (!faults[i].held)
			seen++;
		fln_mask_set_range(&b->later, win.lo, win.hi);
		if (win.hi - win.lo > FLN_FRONT_PAGES && !b->in_context) {
			win.lo = (uint32_t)fln_align_down(pages[i], FLN_FRONT_PAGES);
			win.hi = win.lo + FLN_FRONT_PAGES;
		}
		fln_mask_set_range(&now, win.lo, win.hi);
	}
	atomic_store_explicit(&b->chunk->nr_faults,
			      (uint16_t)(seen < UINT16_MAX ? seen : UINT16_MAX),
			      memory_order_relaxed);
	return now;
}

void fln_block_claim_pages(struct fln_block_round *b, const struct fln_mask *want)
{
	b->claimed = fln_block_is_huge(b) ? fln_region_claim_whole(b->chunk)
					  : fln_region_claim(b->chunk, want);
}

/* A huge page needs no window: it is the whole block. */
static void claim_huge(struct fln_block_round *b)
{
	struct fln_mask present = fln_chunk_load(b->chunk, FLN_PLANE_PRESENT);
	struct fln_mask poisoned = fln_chunk_load(b->chunk, FLN_PLANE_POISONED);

	if (!fln_mask_empty(&present) || !fln_mask_empty(&poisoned)) {
		fln_count(&b->in.shard->count.refaults, 1);
		fln_region_forget(b->chunk, &b->in.faulting);
	}
	fln_block_claim_pages(b, &b->in.faulting);
	b->lost = fln_mask_andnot(&b->in.faulting, &b->claimed);
}

/* A planted bug: threads whose pages the map calls PRESENT are woken, and nothing is installed. */
static void plant_wake_only(struct fln_block_round *b, struct fln_mask *again)
{
	struct fln_mask present = fln_chunk_load(b->chunk, FLN_PLANE_PRESENT);

	present = fln_mask_and(&present, again);
	b->in.present = present;
	*again = fln_mask_andnot(again, &present);
	for (uint32_t p = 0; (p = fln_mask_next_set(&present, p)) < FLN_BLOCK_PAGES; p++)
		fln_uffd_wake(&b->in.shard->uffd, b->in.block_addr + fln_pages_to_bytes(p),
			      FLN_PAGE_BYTES);
}

void fln_block_claim(struct fln_block_round *b, const struct fln_fault *faults, uint32_t nr,
		     const uint32_t *pages)
{
	struct fln_mask present = fln_chunk_load(b->chunk, FLN_PLANE_PRESENT);
	struct fln_mask poisoned = fln_chunk_load(b->chunk, FLN_PLANE_POISONED);
	struct fln_mask valid = fln_blockmap_valid(&b->in.region->map, b->block);
	struct fln_mask known = fln_mask_or(&present, &poisoned), want, again, strays;

	if (fln_block_is_huge(b)) {
		claim_huge(b);
		return;
	}
	again = fln_mask_and(&known, &b->in.faulting);
	if (fln_planted(FLN_BUG_WAKE_ONLY))
		plant_wake_only(b, &again);
	if (!fln_mask_empty(&again)) {
		fln_count(&b->in.shard->count.refaults, fln_mask_count(&again));
		fln_region_forget(b->chunk, &again);
	}
	want = open_windows(b, faults, nr, pages);
	if (!fln_planted(FLN_BUG_POISON_OVERWRITTEN))
		valid = fln_mask_andnot(&valid, &known);
	strays = fln_region_stray_pages(b->in.region, b->in.block_addr);
	valid = fln_mask_andnot(&valid, &strays);
	want = fln_mask_and(&want, &valid);
	want = fln_mask_or(&want, &b->in.faulting);
	b->later = fln_mask_and(&b->later, &valid);
	b->later = fln_mask_andnot(&b->later, &want);
	fln_block_claim_pages(b, &want);
	b->lost = fln_mask_andnot(&b->in.faulting, &b->claimed);
}

void fln_block_go_without(struct fln_block_round *b, const struct fln_fault *faults, uint32_t nr)
{
	const struct fln_blockmap *map = &b->in.region->map;
	struct fln_mask present = fln_blockmap_load(map, FLN_PLANE_PRESENT, b->block);
	struct fln_mask poisoned = fln_blockmap_load(map, FLN_PLANE_POISONED, b->block);
	struct fln_mask known = fln_mask_or(&present, &poisoned);
	uint32_t nr_first = 0;

	known = fln_mask_and(&known, &b->in.faulting);
	b->claimed = b->in.faulting;
	/* Without a chunk only the fault itself says whether it was counted before. */
	for (uint32_t i = 0; i < nr; i++)
		nr_first += !faults[i].kept;
	fln_count(&b->in.shard->count.no_chunk, nr_first);
	if (nr_first == 0)
		return;
	if (!fln_mask_empty(&known))
		fln_count(&b->in.shard->count.refaults,
			  fln_block_is_huge(b) ? 1 : fln_mask_count(&known));
}

void fln_block_install(struct fln_block_round *b, bool zero_too)
{
	struct fln_mask filled = fln_mask_and(&b->claimed, &b->filled);
	struct fln_mask zero = fln_mask_and(&b->claimed, &b->zero);

	fln_install_filled(&b->in, &filled);
	if (zero_too || b->in.region->is_private)
		fln_install_zero(&b->in, &zero);
}

/*
 * A region's map has become whole: post the guest's event if all maps are.  The thread that makes
 * the last block whole sees all counts, because they are changed and read sequentially
 * consistent.
 */
static void post_if_guest_is_whole(struct fln_guest *guest)
{
	struct fln_event event = { .kind = FLN_EVENT_GUEST_WHOLE, .guest = guest };
	const struct fln_directory *d =
		atomic_load_explicit(&guest->directory, memory_order_acquire);

	for (uint32_t i = 0; d && i < d->nr; i++) {
		if (!fln_blockmap_all(&d->regions[i]->map, FLN_PLANE_PRESENT))
			return;
	}
	if (!atomic_exchange(&guest->told_whole, true))
		fln_event_post(&guest->engine->events, &event);
}

void fln_block_post_whole(struct fln_region *region)
{
	if (fln_blockmap_all(&region->map, FLN_PLANE_PRESENT))
		post_if_guest_is_whole(region->guest);
}

void fln_block_collapse(struct fln_region *region, uint64_t block, struct fln_chunk *chunk)
{
	uint32_t nr_faults = atomic_load_explicit(&chunk->nr_faults, memory_order_relaxed);
	struct fln_mask valid, present, discarded;

	if (fln_region_collapse(&region->map, block, chunk)) {
		fln_release_note_mapped(region, block, nr_faults);
		fln_block_post_whole(region);
	}
	if (!region->foreign)
		return;
	/*
	 * No fill tells of a foreign block that it can be released: its last page was copied now.
	 * Pages that were discarded are the process's own, whether they are mapped or not.
	 */
	valid = fln_blockmap_valid(&region->map, block);
	present = fln_blockmap_load(&region->map, FLN_PLANE_PRESENT, block);
	discarded = fln_blockmap_load(&region->map, FLN_PLANE_DISCARDED, block);
	present = fln_mask_or(&present, &discarded);
	valid = fln_mask_andnot(&valid, &present);
	if (fln_mask_empty(&valid))
		fln_release_note(&region->guest->shards[0]);
}

void fln_block_settle(struct fln_block_round *b, const struct fln_mask *poisoned)
{
	struct fln_mask present, dead, rest, lifted;

	if (!b->chunk)
		return;
	present = fln_mask_and(&b->claimed, &b->in.present);
	lifted = fln_chunk_load(b->chunk, FLN_PLANE_POISONED);
	lifted = fln_mask_and(&lifted, &present);
	rest = fln_mask_andnot(&b->claimed, &present);
	dead = fln_mask_and(poisoned, &rest);
	rest = fln_mask_andnot(&rest, &dead);
	if (!b->in.region->foreign && !b->in.region->is_private)
		fln_lift_done(b->chunk, &present);
	fln_plant_preempt(FLN_BUG_PRESENT_BELIEVED, 16);
	fln_region_settle(b->chunk, &present, FLN_PAGE_PRESENT);
	fln_region_settle(b->chunk, &dead, FLN_PAGE_POISONED);
	fln_region_settle(b->chunk, &rest, FLN_PAGE_ABSENT);
	if (!fln_mask_empty(&dead))
		fln_lift_note(b->in.region, b->block, &dead);
	if (b->in_context) {
		fln_context_note_whole(b);
		return;
	}
	fln_block_collapse(b->in.region, b->block, b->chunk);
	/* Poison has kept the block from being released. */
	if (!fln_mask_empty(&lifted))
		fln_release_note(b->in.shard);
}

void fln_context_note_whole(const struct fln_block_round *b)
{
	struct fln_whole_blocks *t = &b->in.shard->whole;
	struct fln_mask valid = fln_blockmap_valid(&b->in.region->map, b->block);
	struct fln_mask present = fln_chunk_load(b->chunk, FLN_PLANE_PRESENT);
	struct fln_mask rest = fln_mask_andnot(&valid, &present);
	struct fln_worker *w;
	uint32_t at, nr;
	uint64_t addr;

	if (!fln_mask_empty(&rest))
		return;
	/* By its first page that is valid: a region may begin in the middle of a block. */
	addr = fln_region_addr_of(b->in.region,
				  b->block * FLN_BLOCK_PAGES + fln_mask_next_set(&valid, 0));
	at = (uint32_t)(addr >> FLN_BLOCK_SHIFT);
	for (uint32_t i = 0; i < FLN_NR_WHOLE; i++, at++) {
		_Atomic uint64_t *slot = &t->addr[at & (FLN_NR_WHOLE - 1)];
		uint64_t there = atomic_load_explicit(slot, memory_order_relaxed);

		if (there == 0 && atomic_compare_exchange_strong_explicit(slot, &there, addr,
									  memory_order_release,
									  memory_order_relaxed))
			break;
		if (there == addr)
			return;
	}
	/* If the table is full the block is not noted: it keeps its chunk until it faults again. */
	nr = atomic_fetch_add_explicit(&t->nr, 1, memory_order_relaxed) + 1;
	w = atomic_load_explicit(&b->in.shard->helper, memory_order_acquire);
	/* One note makes the worker check the clock, many make it collapse them at once. */
	if ((nr == 1 || nr >= FLN_NR_WHOLE / 2) && w)
		fln_worker_kick(w);
}
