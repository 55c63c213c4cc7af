/* SPDX-License-Identifier: MIT */
/*
 * Serving one block of 2 MiB: claim, map what somebody waits for, leave the rest
 * of the windows for later.
 *
 * The pages that threads wait for are mapped first, with a few neighbours, which
 * cost little more than the call, and their threads go on.  The rest of their
 * windows is only noted; it is mapped between rounds, so that a large window
 * makes nobody wait (I7).  What has been noted is a wish, not a claim: pages are
 * claimed when they are mapped, so faults in between go their own way.
 *
 * The map is a hint.  A fault on a page that it calls PRESENT is installed again
 * (and finds EEXIST, and is woken, or finds that the page was taken away).
 */
#include "engine/block.h"

#include "base/blockmap.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/page.h"
#include "base/plant.h"
#include "base/rcu.h"
#include "engine/advised.h"
#include "engine/ahead.h"
#include "engine/command.h"
#include "engine/directory.h"
#include "engine/event_queue.h"
#include "engine/failure.h"
#include "engine/held.h"
#include "engine/install.h"
#include "engine/lift.h"
#include "engine/region_map.h"
#include "engine/state/advised.h"
#include "engine/state/engine.h"
#include "engine/state/guest.h"
#include "engine/state/worker.h"
#include "engine/strays.h"
#include "engine/uffd.h"
#include "engine/window.h"
#include "sources/filler.h"
#include "sources/image.h"
#include "sources/image_cache.h"
#include "sources/image_state.h"

#include <errno.h>
#include <faultlane/advice.h>
#include <faultlane/base.h>
#include <faultlane/event.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>

/*
 * ZERO in the image says that it is not to be read from its source.  The cache may
 * have a page there by now, which a shared guest has written.  In a shared mapping
 * ZEROPAGE finds it, in a private one it would hide it: so ask.
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

void fln_block_look(struct fln_block_round *b)
{
	const struct fln_region *r = b->in.region;
	uint32_t lead = b->block == 0 ? r->map.lead_pages : 0;
	struct fln_mask discarded;

	fln_image_ready(r->image, fln_region_image_page(r, b->in.block_page + lead),
			FLN_BLOCK_PAGES - lead, &b->filled, &b->zero);
	b->filled = fln_mask_up(&b->filled, lead);
	b->zero = fln_mask_up(&b->zero, lead);
	/* Given up in memory that is not the cache's: zeros are due, not the image. */
	discarded = b->chunk ? fln_chunk_load(b->chunk, FLN_PLANE_DISCARDED)
			     : fln_blockmap_load(&r->map, FLN_PLANE_DISCARDED, b->block);
	b->filled = fln_mask_andnot(&b->filled, &discarded);
	b->zero = fln_mask_andnot(&b->zero, &discarded);
	if (r->is_private)
		find_cached(b);
	b->zero = fln_mask_or(&b->zero, &discarded);
}

/* The windows of the block's faults: what to map now, and what later. */
static struct fln_mask open_windows(struct fln_block_round *b, const struct fln_fault *faults,
				    uint32_t nr, const uint32_t *pages)
{
	static const struct fln_window_policy one = { .first = 1, .max = 1 };
	const struct fln_window_policy *policy =
		b->advice == FLN_ADVICE_RANDOM ? &one : &b->in.shard->guest->window;
	struct fln_mask now = { { 0 } };
	uint32_t seen = atomic_load_explicit(&b->chunk->nr_faults, memory_order_relaxed);

	for (uint32_t i = 0; i < nr; i++) {
		struct fln_window win = fln_window_for(policy, seen, pages[i]);

		if (!faults[i].held)
			seen++;
		if (b->advice == FLN_ADVICE_SEQUENTIAL) {
			win.lo = (uint32_t)fln_align_down(pages[i], FLN_FRONT_PAGES);
			win.hi = FLN_BLOCK_PAGES;
		}
		fln_mask_set_range(&b->later, win.lo, win.hi);
		if (win.hi - win.lo > FLN_FRONT_PAGES && !b->in_context) {
			win.lo = (uint32_t)fln_align_down(pages[i], FLN_FRONT_PAGES);
			win.hi = win.lo + FLN_FRONT_PAGES;
		}
		fln_mask_set_range(&now, win.lo, win.hi);
	}
	atomic_store_explicit(&b->chunk->nr_faults, seen, memory_order_relaxed);
	return now;
}

void fln_block_claim_pages(struct fln_block_round *b, const struct fln_mask *want)
{
	b->claimed = fln_block_is_huge(b) ? fln_region_claim_whole(b->chunk)
					  : fln_region_claim(b->chunk, want);
}

/* A huge page has no window: it is one. */
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

/* For a bug: the map is believed. */
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

/* Claim what is to be mapped now, the faulting pages in any case. */
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
	/* Nothing here says that they were counted, when they come again. */
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
 * The region's map has become whole; are the others', too?  Whoever makes the last
 * block whole sees all counts: they are changed and read in one order.
 */
static void tell_if_whole(struct fln_guest *guest)
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

void fln_block_collapse(struct fln_region *region, uint64_t block, struct fln_chunk *chunk)
{
	if (fln_region_collapse(&region->map, block, chunk) &&
	    fln_blockmap_all(&region->map, FLN_PLANE_PRESENT))
		tell_if_whole(region->guest);
}

void fln_block_settle(struct fln_block_round *b, const struct fln_mask *poisoned)
{
	struct fln_mask present, dead, rest;

	if (!b->chunk)
		return;
	present = fln_mask_and(&b->claimed, &b->in.present);
	rest = fln_mask_andnot(&b->claimed, &present);
	dead = fln_mask_and(poisoned, &rest);
	rest = fln_mask_andnot(&rest, &dead);
	if (!b->in.region->foreign && !b->in.region->is_private)
		fln_lift_done(b->chunk, &present);
	fln_region_settle(b->chunk, &present, FLN_PAGE_PRESENT);
	fln_region_settle(b->chunk, &dead, FLN_PAGE_POISONED);
	fln_region_settle(b->chunk, &rest, FLN_PAGE_ABSENT);
	if (!fln_mask_empty(&dead))
		fln_lift_note(b->in.region, b->block, &dead);
	if (b->in_context)
		fln_context_note_whole(b);
	else
		fln_block_collapse(b->in.region, b->block, b->chunk);
}

static void poison_page(struct fln_worker *w, struct fln_block_round *b, uint32_t page, int error,
			struct fln_mask *poisoned, enum fln_held_reason *reason)
{
	uint64_t addr = b->in.block_addr + fln_pages_to_bytes(page);
	struct fln_mask one = fln_mask_range(page, page + 1);

	if (fln_block_is_huge(b))
		one = b->in.faulting;
	fln_install_poison(&b->in, &one, poisoned);
	*reason = fln_mask_test(&b->in.broken, page) ? FLN_HELD_STUCK : FLN_HELD_AGAIN;
	if (!fln_mask_test(poisoned, page)) {
		if (b->in.region->foreign && *reason == FLN_HELD_STUCK &&
		    fln_guest_fail(b->in.region->guest, -EINVAL))
			fln_log(&w->opts.log, FLN_LOG_ERROR,
				"guest %s has failed: the page at 0x%llx can be neither filled nor "
				"poisoned; let its process register pages of 4 KiB",
				b->in.shard->guest->name, (unsigned long long)addr);
		return;
	}
	fln_failure_tell(b->in.region, addr, error);
	fln_log_limited(&w->opts.log, &w->poison_limit, FLN_LOG_ERROR,
			"guest %s: the page at 0x%llx cannot be had and is poisoned",
			b->in.shard->guest->name, (unsigned long long)addr);
}

static void hold(struct fln_worker *w, struct fln_block_round *b, struct fln_fault *fault,
		 uint32_t page, enum fln_held_reason reason, uint64_t now_ns)
{
	if (reason == FLN_HELD_AGAIN)
		reason = fln_fault_again(w, b->in.shard, fault, fln_mask_test(&b->in.starved, page),
					 fln_mask_test(&b->lost, page), now_ns);
	else
		fault->again_since_ns = 0;
	fln_hold(w, b->in.shard, fault, reason);
}

/*
 * Zeros for which no huge page is left: tried again, and said aloud.  True when that has
 * lasted as long as a source may take: then the page cannot be had.
 */
static bool must_do_without(struct fln_worker *w, const struct fln_block_round *b,
			    const struct fln_fault *fault, uint32_t page, uint64_t now_ns,
			    int *error)
{
	/* Not from t0: it may have waited long for contents, before zeros were due. */
	bool late = w->opts.source_timeout_ns != UINT64_MAX && fault->again_since_ns > 0 &&
		    fln_is_over(fault->again_since_ns, now_ns, w->opts.source_timeout_ns);

	if (!fln_block_is_huge(b) || !fln_mask_test(&b->in.starved, page))
		return false;
	fln_log_limited(&w->opts.log, &w->log_limit, late ? FLN_LOG_ERROR : FLN_LOG_WARNING,
			"guest %s: no huge page is left for the zeros at 0x%llx; raise "
			"vm.nr_hugepages%s",
			b->in.shard->guest->name, (unsigned long long)b->in.block_addr,
			late ? "" : " (tried again)");
	*error = -ENOMEM;
	return late;
}

/* What became of each fault of the block. */
static void settle_faults(struct fln_worker *w, struct fln_block_round *b, struct fln_fault *faults,
			  uint32_t nr, const uint32_t *pages)
{
	struct fln_shard *shard = b->in.shard;
	struct fln_mask ready = fln_mask_or(&b->filled, &b->zero);
	struct fln_mask poisoned = { { 0 } };
	uint64_t now = fln_now_ns();

	for (uint32_t i = 0; i < nr; i++) {
		enum fln_held_reason reason = FLN_HELD_AGAIN;
		uint32_t p = pages[i];
		int error = -EIO;
		bool untried = !fln_mask_test(&b->in.present, p) &&
			       !fln_mask_test(&b->in.again, p) && !fln_mask_test(&b->in.gone, p) &&
			       !fln_mask_test(&b->lost, p) && !fln_mask_test(&poisoned, p);

		if (untried && fln_mask_test(&b->in.broken, p))
			fln_failure_refused(w, b->in.region, faults[i].addr);
		if ((untried && fln_mask_test(&b->in.broken, p)) ||
		    (!fln_mask_test(&poisoned, p) &&
		     must_do_without(w, b, &faults[i], p, now, &error)) ||
		    (untried && !fln_mask_test(&ready, p) &&
		     fln_failure_must_poison(w, b->in.region, &faults[i],
					     fln_region_image_page(b->in.region,
								   b->in.block_page + p),
					     b->advice == FLN_ADVICE_RANDOM ? 1 : 0, now, &reason,
					     &error)))
			poison_page(w, b, p, error, &poisoned, &reason);
		if (fln_mask_test(&b->in.present, p)) {
			fln_end_fault(shard, &faults[i], FLN_ENDED_RESUMED,
				      fln_mask_test(&b->in.zeroed, p), now);
		} else if (fln_mask_test(&poisoned, p)) {
			fln_end_fault(shard, &faults[i], FLN_ENDED_POISONED, false, now);
		} else if (fln_mask_test(&b->in.gone, p)) {
			/* Nobody else tells those who wait that their range has gone. */
			fln_uffd_wake(&shard->uffd, b->in.block_addr + fln_pages_to_bytes(p),
				      b->in.region->page_bytes);
			fln_end_fault(shard, &faults[i], FLN_ENDED_FAILED, false, now);
		} else {
			hold(w, b, &faults[i], p, reason, now);
		}
	}
	fln_block_settle(b, &poisoned);
}

/* Which slot a block's later pages go into: blocks of one region that lie together share none. */
static uint32_t later_slot(const struct fln_region *region, uint64_t block_addr)
{
	uint64_t of_region = ((uintptr_t)region >> 6) * UINT64_C(0x9e3779b97f4a7c15) >> 32;

	return (uint32_t)((block_addr >> FLN_BLOCK_SHIFT) + of_region) & (FLN_NR_LATER - 1);
}

/* Is what was left for later of the same pages?  For a bug: the block's address says so. */
static bool is_later_of(const struct fln_later *l, const struct fln_block_round *b)
{
	return l->shard == b->in.shard && l->block_addr == b->in.block_addr &&
	       (l->region == b->in.region || fln_planted(FLN_BUG_LATER_OF_ANOTHER));
}

static void note_later(struct fln_worker *w, struct fln_block_round *b)
{
	const struct fln_region *key = fln_planted(FLN_BUG_LATER_OF_ANOTHER) ? NULL : b->in.region;
	uint32_t slot = later_slot(key, b->in.block_addr);
	struct fln_later *l = &w->later[slot];

	if (fln_mask_empty(&b->later))
		return;
	if (is_later_of(l, b)) {
		l->pages = fln_mask_or(&l->pages, &b->later);
		return;
	}
	if (l->shard)
		return; /* another block has the slot: this one's next fault will ask again */
	l->shard = b->in.shard;
	l->region = b->in.region;
	l->block_addr = b->in.block_addr;
	l->pages = b->later;
	w->later_queue[(w->later_head + w->nr_later++) & (FLN_NR_LATER - 1)] = slot;
}

/*
 * What was said of the memory of a fault.  Of a block that is two things, what was
 * said of the first one: a block has one policy at a time.
 */
static enum fln_advice advice_of(const struct fln_block_round *b, const struct fln_fault *faults,
				 uint32_t nr)
{
	const struct fln_range *range = fln_advice_at(b->in.region->guest, faults[0].addr);
	uint64_t end;

	if (!range)
		return FLN_ADVICE_NORMAL;
	if (range->what == FLN_ADVICE_SEQUENTIAL) {
		end = b->in.region->addr + b->in.region->len_bytes;
		for (uint32_t i = 0; i < nr && !faults[i].kept; i++) /* they were told of */
			fln_ahead_fault(b->in.region->guest, faults[i].addr,
					range->end < end ? range->end : end);
	}
	return (enum fln_advice)range->what;
}

/*
 * Faults that were held while somebody else's poisoned their page: their threads have been
 * woken with it.  To map the page now would overwrite the poison, which is for discards to
 * lift.  The map is a hint all the same: whoever sleeps there after all is woken, and his
 * next fault is a message of its own, which is served whatever the map says.  Faults that
 * are served together have all been held, or all just been read.  Returns how many are left.
 */
static uint32_t end_poisoned(struct fln_block_round *b, struct fln_fault *faults, uint32_t nr,
			     uint32_t *pages)
{
	struct fln_mask poisoned = fln_chunk_load(b->chunk, FLN_PLANE_POISONED);
	uint32_t left = 0;

	poisoned = fln_mask_and(&poisoned, &b->in.faulting);
	if (!faults[0].kept || fln_mask_empty(&poisoned))
		return nr;
	if (fln_block_is_huge(b))
		poisoned = b->in.faulting; /* its states move together */
	for (uint32_t i = 0; i < nr; i++) {
		if (!fln_mask_test(&poisoned, pages[i])) {
			faults[left] = faults[i];
			pages[left++] = pages[i];
			continue;
		}
		fln_uffd_wake(&b->in.shard->uffd, b->in.block_addr + fln_pages_to_bytes(pages[i]),
			      b->in.region->page_bytes);
		fln_end_fault(b->in.shard, &faults[i], FLN_ENDED_POISONED, false, fln_now_ns());
	}
	b->in.faulting = fln_mask_andnot(&b->in.faulting, &poisoned);
	return left;
}

/*
 * There is no chunk for the block, but there will be: others are on their way back.  What
 * is mapped without one is known to nobody, so the faults try again.
 */
static bool wait_for_chunk(struct fln_worker *w, struct fln_block_round *b,
			   struct fln_fault *faults, uint32_t nr, const uint32_t *pages)
{
	uint64_t now;

	if (!fln_blockmap_chunks_return(&b->in.region->map))
		return false;
	now = fln_now_ns();
	for (uint32_t i = 0; i < nr; i++)
		hold(w, b, &faults[i], pages[i], FLN_HELD_AGAIN, now);
	return true;
}

void fln_serve_block(struct fln_worker *w, struct fln_shard *shard, struct fln_region *region,
		     struct fln_fault *faults, uint32_t nr)
{
	uint64_t first_page = fln_region_page_of(region, faults[0].addr);
	struct fln_block_round b = { .block = first_page / FLN_BLOCK_PAGES };
	uint32_t pages[FLN_BATCH_LIMIT];

	FLN_DEBUG_ASSERT(nr > 0 && nr <= FLN_BATCH_LIMIT);
	b.in.shard = shard;
	b.in.region = region;
	b.in.block_page = b.block * FLN_BLOCK_PAGES;
	b.in.block_addr = faults[0].addr - fln_pages_to_bytes(first_page - b.in.block_page);
	for (uint32_t i = 0; i < nr; i++) {
		pages[i] = (uint32_t)fln_bytes_to_pages(faults[i].addr - b.in.block_addr);
		FLN_DEBUG_ASSERT(pages[i] < FLN_BLOCK_PAGES);
		pages[i] = fln_block_fault(&b, pages[i]);
	}
	b.chunk = fln_blockmap_chunk(&region->map, b.block);
	b.advice = advice_of(&b, faults, nr);
	if (b.chunk)
		nr = end_poisoned(&b, faults, nr, pages);
	if (nr == 0)
		return;
	if (b.chunk)
		fln_block_claim(&b, faults, nr, pages);
	else if (wait_for_chunk(w, &b, faults, nr, pages))
		return;
	else
		fln_block_go_without(&b, faults, nr);
	fln_block_look(&b);
	fln_block_install(&b, true);
	settle_faults(w, &b, faults, nr, pages);
	note_later(w, &b);
}

/* Map what is left of a block's windows, as far as it may be mapped now. */
static uint32_t serve_one_later(const struct fln_later *l)
{
	uint32_t first = fln_mask_next_set(&l->pages, 0);
	uint64_t addr = l->block_addr + fln_pages_to_bytes(first);
	struct fln_region *region = fln_directory_find(l->shard->guest, addr);
	struct fln_block_round b = { .chunk = NULL };
	struct fln_mask none = { { 0 } }, pages;

	if (!region || atomic_load_explicit(&region->closing, memory_order_acquire))
		return 0;
	if (region != l->region && !fln_planted(FLN_BUG_LATER_OF_ANOTHER))
		return 0; /* another lies there by now */
	b.block = fln_region_page_of(region, addr) / FLN_BLOCK_PAGES;
	b.chunk = fln_blockmap_peek(&region->map, b.block);
	if (!b.chunk)
		return 0; /* whole by now, or forgotten */
	b.in.shard = l->shard;
	b.in.region = region;
	b.in.block_page = b.block * FLN_BLOCK_PAGES;
	b.in.block_addr = l->block_addr;
	pages = fln_region_stray_pages(region, l->block_addr);
	pages = fln_mask_andnot(&l->pages, &pages);
	fln_block_claim_pages(&b, &pages);
	fln_block_look(&b);
	fln_block_install(&b, false);
	fln_block_settle(&b, &none);
	return fln_mask_count(&b.in.present);
}

void fln_serve_later(struct fln_worker *w, uint32_t nr_pages)
{
	uint32_t nr = 0;

	while (w->nr_later > 0 && nr < nr_pages) {
		struct fln_later *l = &w->later[w->later_queue[w->later_head]];

		w->later_head = (w->later_head + 1) & (FLN_NR_LATER - 1);
		w->nr_later--;
		fln_rcu_read_lock();
		nr += serve_one_later(l);
		fln_rcu_read_unlock();
		l->shard = NULL;
	}
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
	/* Its first page: a region may begin in the middle of a block. */
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
	/* Beyond that it is forgotten: the chunk stays, until the block faults again. */
	nr = atomic_fetch_add_explicit(&t->nr, 1, memory_order_relaxed) + 1;
	w = atomic_load_explicit(&b->in.shard->helper, memory_order_acquire);
	/* The first has it look at the clock, many have it begin at once. */
	if ((nr == 1 || nr >= FLN_NR_WHOLE / 2) && w)
		fln_worker_kick(w);
}
