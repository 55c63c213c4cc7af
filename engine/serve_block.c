/* SPDX-License-Identifier: MIT */
/*
 * Serving the faults of one block: one round of work for all of them, one outcome for each.
 *
 * The pages that threads wait for are mapped first, with a few neighbours, which cost little more
 * than the call, and their threads resume.  The rest of the windows is only noted, and mapped
 * between rounds, so that a large window keeps no thread waiting (I7).  What is noted is not
 * claimed: pages are claimed when they are mapped, so faults on them in between are served as
 * usual.
 *
 * Tested by unit.serve, unit.serve_blocks, unit.serve_random.
 */
#include "engine/serve_block.h"

#include "base/blockmap.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/page.h"
#include "base/plant.h"
#include "base/rcu.h"
#include "engine/advised.h"
#include "engine/ahead.h"
#include "engine/block.h"
#include "engine/directory.h"
#include "engine/failure.h"
#include "engine/held.h"
#include "engine/install.h"
#include "engine/lift.h"
#include "engine/region_map.h"
#include "engine/release_case.h"
#include "engine/release_run.h"
#include "engine/released.h"
#include "engine/state/advised.h"
#include "engine/state/guest.h"
#include "engine/state/worker.h"
#include "engine/strays.h"
#include "engine/uffd.h"

#include <errno.h>
#include <faultlane/advice.h>
#include <faultlane/base.h>
#include <stdatomic.h>
#include <stdbool.h>

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
				"poisoned; its process must register pages of 4 KiB",
				b->in.shard->guest->name, (unsigned long long)addr);
		return;
	}
	fln_failure_tell(b->in.region, addr, error);
	fln_log_limited(&w->opts.log, &b->in.region->guest->poison_limit, FLN_LOG_ERROR,
			"guest %s: the page at 0x%llx has failed and is poisoned",
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
 * Zeros are due, and no huge page is left for them: log it.  False: the fault is retried.  True:
 * that has lasted longer than source_timeout_ns, and the page has failed.
 */
static bool starved_too_long(struct fln_worker *w, const struct fln_block_round *b,
			     const struct fln_fault *fault, int *error)
{
	/* Not since t0_ns: it may have waited long for contents before zeros were due. */
	bool late = w->opts.source_timeout_ns != UINT64_MAX && fault->again_since_ns > 0 &&
		    fln_is_over(fault->again_since_ns, w->looked_ns, w->opts.source_timeout_ns);

	fln_log_limited(&w->opts.log, &b->in.region->guest->log_limit,
			late ? FLN_LOG_ERROR : FLN_LOG_WARNING,
			"guest %s: no huge page is left for the zeros at 0x%llx; raise "
			"vm.nr_hugepages%s",
			b->in.shard->guest->name, (unsigned long long)b->in.block_addr,
			late ? "" : " (tried again)");
	*error = -ENOMEM;
	return late;
}

/* The round's outcome for a faulting page. */
enum outcome {
	MAPPED,
	POISONED,
	GONE,    /* unmapped meanwhile, or its process has ended */
	STARVED, /* zeros are due, and no huge page is left for them */
	PUT_OFF, /* retried: an event is unread, another thread has claimed it, or it was not tried */
	REFUSED,  /* the kernel refuses to map it */
	UNFILLED, /* the image does not have its contents */
};

static enum outcome outcome_of(const struct fln_block_round *b, const struct fln_mask *poisoned,
			       uint32_t page)
{
	if (fln_mask_test(&b->in.present, page))
		return MAPPED;
	if (fln_mask_test(poisoned, page))
		return POISONED;
	if (fln_mask_test(&b->in.gone, page))
		return GONE;
	if (fln_block_is_huge(b) && fln_mask_test(&b->in.starved, page))
		return STARVED;
	if (fln_mask_test(&b->in.again, page) || fln_mask_test(&b->lost, page))
		return PUT_OFF;
	if (fln_mask_test(&b->in.broken, page))
		return REFUSED;
	return fln_mask_test(&b->filled, page) || fln_mask_test(&b->zero, page) ? PUT_OFF
										: UNFILLED;
}

/* If the page was not mapped: poison it, or set the *reason to hold its fault for. */
static void poison_or_hold(struct fln_worker *w, struct fln_block_round *b, struct fln_fault *fault,
			   uint32_t page, struct fln_mask *poisoned, enum fln_held_reason *reason,
			   uint64_t now_ns)
{
	uint64_t image_page = fln_region_image_page(b->in.region, b->in.block_page + page);
	uint32_t fill_pages = b->advice == FLN_ADVICE_RANDOM ? 1 : 0;
	bool must_poison = false;
	int error = -EIO;

	switch (outcome_of(b, poisoned, page)) {
	case STARVED:
		must_poison = starved_too_long(w, b, fault, &error);
		break;
	case REFUSED:
		fln_failure_refused(w, b->in.region, fault->addr);
		must_poison = true;
		break;
	case UNFILLED:
		must_poison = fln_failure_must_poison(w, b->in.region, fault, image_page,
						      fill_pages, now_ns, reason, &error);
		if (must_poison && fln_lift_too_late(b->in.region, b->block, page)) {
			*reason = FLN_HELD_AGAIN;
			must_poison = false;
		}
		break;
	default:
		break;
	}
	if (must_poison)
		poison_page(w, b, page, error, poisoned, reason);
}

static void settle_faults(struct fln_worker *w, struct fln_block_round *b, struct fln_fault *faults,
			  uint32_t nr, const uint32_t *pages)
{
	struct fln_shard *shard = b->in.shard;
	struct fln_mask poisoned = { { 0 } };
	uint64_t now = fln_now_ns();

	for (uint32_t i = 0; i < nr; i++) {
		enum fln_held_reason reason = FLN_HELD_AGAIN;
		uint32_t p = pages[i];

		poison_or_hold(w, b, &faults[i], p, &poisoned, &reason, now);
		switch (outcome_of(b, &poisoned, p)) {
		case MAPPED:
			fln_end_fault(shard, &faults[i], FLN_ENDED_RESUMED, fln_block_is_zero(b, p),
				      now);
			break;
		case POISONED:
			fln_end_fault(shard, &faults[i], FLN_ENDED_POISONED, false, now);
			break;
		case GONE:
			/* munmap() has woken no thread that waits in the range. */
			fln_uffd_wake(&shard->uffd, b->in.block_addr + fln_pages_to_bytes(p),
				      b->in.region->page_bytes);
			fln_end_fault(shard, &faults[i], FLN_ENDED_FAILED, false, now);
			break;
		default:
			hold(w, b, &faults[i], p, reason, now);
			break;
		}
	}
	fln_block_settle(b, &poisoned);
}

/* The slot for a block's postponed pages; adjacent blocks of a region have different ones. */
static uint32_t later_slot(const struct fln_region *region, uint64_t block_addr)
{
	uint64_t of_region = fln_hash_ptr(region) >> 32;

	return (uint32_t)((block_addr >> FLN_BLOCK_SHIFT) + of_region) & (FLN_NR_LATER - 1);
}

/* Is the slot of the same block?  (A planted bug compares the address only.) */
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
		return; /* another block has the slot: the next fault of this one tries again */
	l->shard = b->in.shard;
	l->region = b->in.region;
	l->block_addr = b->in.block_addr;
	l->pages = b->later;
	w->later_queue[(w->later_head + w->nr_later++) & (FLN_NR_LATER - 1)] = slot;
}

/*
 * The advice for the faults of a block.  If the block has different ones, that of the first fault
 * holds: a round has one policy.
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
		for (uint32_t i = 0; i < nr && !faults[i].kept; i++) /* once for each fault */
			fln_ahead_fault(b->in.region->guest, faults[i].addr,
					range->end < end ? range->end : end);
	}
	return (enum fln_advice)range->what;
}

/*
 * End faults that were held while their page was poisoned for another fault: that has woken their
 * threads.  Mapping the page now would overwrite the poison, which only discards may lift.  The map
 * is a hint, though: so threads that still sleep there are woken, and fault again with a message of
 * their own, which is served whatever the map says.  Faults that are served together have either
 * all been held, or all just been read.  Returns how many are left.
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
 * The block has no chunk, but chunks are being returned to the pool: hold the faults until then,
 * because the map cannot record pages that are mapped without one.  False: none will come.
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

/* Release the block, where that serves its faults better than mapping a window would. */
static bool release_at_fault(struct fln_worker *w, const struct fln_block_round *b,
			     const struct fln_fault *faults, uint32_t nr)
{
	struct fln_region *r = b->in.region;
	uint64_t end = b->block + 1;
	struct fln_block_case c;

	if (r->release != FLN_RELEASE_AUTO || r->foreign || !fln_release_is_possible(r) ||
	    !atomic_load_explicit(&r->is_open, memory_order_acquire))
		return false;
	c = fln_release_case(r, b->block);
	if (b->advice == FLN_ADVICE_RANDOM)
		c.seen = FLN_SEEN_SPARSE;
	if (!fln_policy_releases_at_fault(&c) || fln_release_look(r, b->block) != FLN_FATE_READY ||
	    fln_release_run(w, b->in.shard, r, b->block, &end) != FLN_FATE_DONE)
		return false;
	fln_released_end_faults(b->in.shard, r, faults, nr);
	return true;
}

void fln_serve_block(struct fln_worker *w, struct fln_shard *shard, struct fln_region *region,
		     struct fln_fault *faults, uint32_t nr)
{
	uint64_t first_page = fln_region_page_of(region, faults[0].addr);
	struct fln_block_round b = { .block = first_page / FLN_BLOCK_PAGES };
	uint32_t pages[FLN_BATCH_LIMIT];

	fln_rcu_assert_reading();
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
	b.advice = advice_of(&b, faults, nr);
	if (release_at_fault(w, &b, faults, nr))
		return;
	b.chunk = fln_blockmap_chunk(&region->map, b.block);
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

/* Map the postponed pages of one block, as far as the image permits.  RCU read lock held. */
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
		return 0; /* another region has taken its place */
	b.block = fln_region_page_of(region, addr) / FLN_BLOCK_PAGES;
	b.chunk = fln_blockmap_peek(&region->map, b.block);
	if (!b.chunk)
		return 0; /* the block is whole by now, or was discarded */
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
