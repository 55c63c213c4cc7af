/* SPDX-License-Identifier: MIT */
/*
 * Releasing a run of blocks from its userfaultfd.
 *
 * The order: all pages of the run are claimed, so that no thread is about to map or poison one; the
 * range is unregistered; the map says RELEASED; the range is woken.  So RELEASED is never ahead of
 * the kernel, and a failure changes nothing in the map.  UNREGISTER excludes installs, which hold the
 * mapping's lock: those before it are done, those after it find nothing (ENOENT), and the fault
 * that they were for is repeated, and served by the kernel.  UNREGISTER itself wakes, but before it
 * takes that lock: a thread that faults in between is woken by the second wake.  A fault that a
 * worker has read or holds ends when it looks the block up (released.h).
 *
 * The kernel unregisters one mapping after the other, and a run consists of several where the
 * embedder has changed the protection of a part.  If UNREGISTER fails, smaller ranges are tried to
 * find out how far it came: on memory that is not registered it does nothing.  The blocks up to
 * there are released, the others stay as they are, and the whole range is woken, because more of it
 * may have left: a part of one block, if a mapping ends within that block.  The map still says that
 * this block is served; installs for faults that were read there find nothing (ENOENT), and the
 * release is tried again.
 *
 * Each change of mappings is counted before it is made, and taken from the budget, under one lock
 * for the guest: two workers that release neighbouring stripes would count the boundary between
 * them twice, or not at all (release_maps.h).
 *
 * Tested by unit.release, unit.release_waits, integration.release, integration.release_life.
 */
#include "engine/release_run.h"

#include "base/blockmap.h"
#include "base/error.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/map.h"
#include "base/page.h"
#include "base/plant.h"
#include "base/rcu.h"
#include "engine/block.h"
#include "engine/command.h"
#include "engine/mapping.h"
#include "engine/memory_ops.h"
#include "engine/owners.h"
#include "engine/region_map.h"
#include "engine/release_case.h"
#include "engine/release_maps.h"
#include "engine/released.h"
#include "engine/state/engine.h"
#include "engine/state/guest.h"
#include "engine/state/worker.h"
#include "engine/strays.h"
#include "engine/uffd.h"
#include "sharding/stripes.h"
#include "sources/image.h"
#include "sources/image_ready.h"

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/mman.h>

#define MANY_REFUSED 16u /* in a row: the kernel does not join entries */

uint64_t fln_release_bytes(const struct fln_region *r, uint64_t block, uint64_t end)
{
	return fln_block_addr(r, end) - fln_block_addr(r, block);
}

/* A foreign block: pages that were copied, or discarded, are the process's own from then on. */
static bool is_copied(const struct fln_region *r, uint64_t block, const struct fln_mask *valid)
{
	struct fln_mask there = fln_blockmap_load(&r->map, FLN_PLANE_PRESENT, block), m;

	m = fln_blockmap_load(&r->map, FLN_PLANE_DISCARDED, block);
	there = fln_mask_or(&there, &m);
	m = fln_mask_andnot(valid, &there);
	return fln_mask_empty(&m);
}

/*
 * A huge page of zeros must be allocated when it is touched, and the kernel's answer is a signal
 * if none is left.  An image of ours has reserved its huge pages; in an adopted memfd such a block
 * is served, and retried, until its page is there.
 */
static bool must_allocate(const struct fln_region *r, uint64_t block, const struct fln_mask *filled)
{
	struct fln_mask present;

	if (r->page_bytes == FLN_PAGE_BYTES || !r->image->adopted || !fln_mask_empty(filled))
		return false;
	present = fln_blockmap_load(&r->map, FLN_PLANE_PRESENT, block);
	return fln_mask_empty(&present);
}

/* Does the image have all contents of the block?  That is for good. */
static enum fln_fate look_at_image(const struct fln_region *r, uint64_t block,
				   const struct fln_mask *valid)
{
	uint32_t lo = fln_mask_next_set(valid, 0), nr = fln_mask_count(valid);
	struct fln_mask filled, zero;

	fln_image_ready(r->image, fln_region_image_page(r, block * FLN_BLOCK_PAGES + lo), nr,
			&filled, &zero);
	zero = fln_mask_or(&filled, &zero);
	if (fln_planted(FLN_BUG_RELEASED_UNFILLED) && fln_mask_count(&zero) > nr / 2)
		return FLN_FATE_READY;
	if (fln_mask_count(&zero) < nr)
		return FLN_FATE_UNFILLED;
	return must_allocate(r, block, &filled) ? FLN_FATE_KEPT : FLN_FATE_READY;
}

enum fln_fate fln_release_look(const struct fln_region *r, uint64_t block)
{
	struct fln_mask valid = fln_blockmap_valid(&r->map, block), m;
	enum fln_fate fate = FLN_FATE_UNFILLED;

	fln_rcu_assert_reading();
	if (fln_region_is_released(&r->map, block))
		return FLN_FATE_DONE;
	if (!r->foreign)
		fate = look_at_image(r, block, &valid);
	else if (is_copied(r, block, &valid))
		/* PRESENT may stand for a page whose contents are unknown (foreign.c). */
		fate = atomic_load_explicit(&r->guest->found_pages, memory_order_relaxed)
			       ? FLN_FATE_KEPT
			       : FLN_FATE_READY;
	if (fate != FLN_FATE_READY)
		return fate;
	m = fln_region_stray_pages(r, fln_region_addr_of(r, block * FLN_BLOCK_PAGES));
	if (!fln_mask_empty(&m))
		return FLN_FATE_KEPT;
	m = fln_blockmap_load(&r->map, FLN_PLANE_POISONED, block);
	m = fln_mask_and(&m, &valid);
	if (!fln_mask_empty(&m) && !fln_planted(FLN_BUG_RELEASED_POISONED))
		return FLN_FATE_FAILED;
	m = fln_blockmap_load(&r->map, FLN_PLANE_CLAIMED, block);
	return fln_mask_empty(&m) ? FLN_FATE_READY : FLN_FATE_BUSY;
}

/* fln_mapping_each_seen() callback: a piece that still maps the region's image. */
static int unregister_piece(struct fln_region *r, uint64_t addr, uint64_t len_bytes, uint64_t moved)
{
	(void)moved;
	/* None after one that has failed: what is released is the beginning of the run. */
	if (r->release_error == 0)
		r->release_error =
			fln_uffd_unregister(&fln_region_shard_at(r, addr)->uffd, addr, len_bytes);
	return r->release_error;
}

/* fln_memory_ops.each callback: the part of a piece that is to be released. */
static int unregister_part(struct fln_region *r, uint64_t addr, uint64_t len_bytes)
{
	uint64_t lo = addr > r->release_lo ? addr : r->release_lo;
	uint64_t hi = addr + len_bytes < r->release_hi ? addr + len_bytes : r->release_hi;

	return lo < hi ? unregister_piece(r, lo, hi - lo, 0) : 0;
}

/*
 * Where the embedder has unmapped a part, another mapping may lie there by now, and be registered
 * with a userfaultfd of the embedder's: older kernels would unregister it from that.
 */
static int unregister(struct fln_shard *shard, struct fln_region *r, uint64_t addr, uint64_t end)
	FLN_REQUIRES(r->guest->release.lock)
{
	const struct fln_memory_ops *ops = r->guest->engine->memory;

	if (r->foreign || !atomic_load_explicit(&r->has_gaps, memory_order_relaxed))
		return fln_uffd_unregister(&shard->uffd, addr, end - addr);
	r->release_error = 0;
	if (!ops)
		return fln_mapping_each_seen(r, addr, end, 0, unregister_piece);
	r->release_lo = addr;
	r->release_hi = end;
	return ops->each(r, unregister_part);
}

static void log_refused(struct fln_worker *w, const struct fln_region *r, uint64_t addr, int rc)
{
	fln_log_limited(&w->opts.log, &r->guest->log_limit, FLN_LOG_WARNING,
			"guest %s: memory at 0x%" PRIx64 " cannot be released for now (errno %d), "
			"and is served; raise vm.max_map_count if mappings ran out",
			r->guest->name, addr, -rc);
}

/* Claim the blocks [block, *end), or as many from the first on as can be. */
static enum fln_fate hold(struct fln_region *r, uint64_t block, uint64_t *end)
{
	enum fln_region_hold held = FLN_HOLD_OK;
	uint64_t at = block;

	while (at < *end && (held = fln_region_hold(&r->map, at)) == FLN_HOLD_OK)
		at++;
	if (at > block) {
		*end = at;
		return FLN_FATE_READY;
	}
	*end = block + 1;
	return held == FLN_HOLD_POISONED ? FLN_FATE_FAILED : FLN_FATE_BUSY;
}

/* UNREGISTER of [block, end) has failed: returns the first block of which some may be registered. */
static uint64_t find_registered(struct fln_shard *shard, struct fln_region *r, uint64_t block,
				uint64_t end) FLN_REQUIRES(r->guest->release.lock)
{
	/* Mostly not even the first: no mapping is left. */
	if (end - block > 1 &&
	    unregister(shard, r, fln_block_addr(r, block), fln_block_addr(r, block + 1)) != 0)
		return block;
	while (end - block > 1) {
		uint64_t mid = block + (end - block) / 2;

		if (unregister(shard, r, fln_block_addr(r, block), fln_block_addr(r, mid)) == 0)
			block = mid;
		else
			end = mid;
	}
	return block;
}

/* UNREGISTER of [block, *end) has failed with @rc, and @taken mappings were taken for it. */
static enum fln_fate release_part(struct fln_shard *shard, struct fln_region *r, uint64_t block,
				  uint64_t *end, int64_t taken, int rc)
	FLN_REQUIRES(r->guest->release.lock)
{
	uint64_t stop;

	if (r->foreign && rc == -ENOMEM &&
	    fln_uffd_place(&shard->uffd, fln_block_addr(r, block)) == FLN_UFFD_PLACE_GONE) {
		/* Not for want of mappings: its process has ended, which is for good. */
		atomic_store_explicit(&shard->uffd.process_gone, true, memory_order_relaxed);
		fln_release_note_maps(r, -taken);
		return FLN_FATE_KEPT;
	}
	stop = find_registered(shard, r, block, *end);
	/*
	 * If a part of a block has left, no event reports any more that it is unmapped: look at the
	 * mappings from now on.  Not earlier, because reading them may itself take a mapping.
	 */
	atomic_store_explicit(&r->has_gaps, true, memory_order_relaxed);
	if (stop == block || fln_planted(FLN_BUG_RELEASED_HALF)) {
		fln_release_keep_maps(r, taken);
		return rc == -ENOMEM ? FLN_FATE_LIMITED : FLN_FATE_BUSY;
	}
	*end = stop;
	fln_release_note_maps(r, fln_release_growth(r, block, stop) - taken);
	return FLN_FATE_DONE;
}

/* Is the block one large folio of which single pages are mapped, as far as is known? */
static bool has_entries_to_join(const struct fln_region *r, uint64_t block)
{
	struct fln_mask present = fln_blockmap_load(&r->map, FLN_PLANE_PRESENT, block);

	return !fln_mask_empty(&present) &&
	       fln_release_bytes(r, block, block + 1) == FLN_BLOCK_BYTES &&
	       fln_release_case(r, block).large;
}

/*
 * Entries of single pages, which installs have left behind in blocks of large folios, become one
 * for each block.  Cheap, as nothing is copied; but the kernel drains a list of each processor for
 * each call, so neighbours are joined by one.  Blocks without entries get one at their first touch.
 *
 * While the run is still registered, and its pages are claimed: another mapping could lie in its
 * place later, and a collapse there could map what is not filled.  For the same reason not in a
 * region with gaps.
 */
static void join_entries(struct fln_region *r, uint64_t block, uint64_t end)
{
	_Atomic uint32_t *nr_refused = &r->guest->release.nr_not_joined;

	if (r->foreign || r->is_private ||
	    atomic_load_explicit(&r->has_gaps, memory_order_relaxed) ||
	    atomic_load_explicit(nr_refused, memory_order_relaxed) >= MANY_REFUSED)
		return;
	for (uint64_t lo = block, hi; lo < end; lo = hi + 1) {
		for (hi = lo; hi < end && has_entries_to_join(r, hi); hi++)
			;
		if (hi == lo)
			continue;
		if (madvise((void *)(uintptr_t)fln_block_addr(r, lo), (hi - lo) * FLN_BLOCK_BYTES,
			    MADV_COLLAPSE) == 0)
			atomic_store_explicit(nr_refused, 0, memory_order_relaxed);
		else if (errno == EINVAL)
			(void)atomic_fetch_add_explicit(nr_refused, 1, memory_order_relaxed);
	}
}

static enum fln_fate release_held(struct fln_shard *shard, struct fln_region *r, uint64_t block,
				  uint64_t *end, int *error) FLN_REQUIRES(r->guest->release.lock)
{
	int64_t nr = fln_release_growth(r, block, *end), taken = nr > 0 ? nr : 0;

	/* Taken before the call, given back after it. */
	if (!fln_release_take_maps(r, taken))
		return FLN_FATE_LIMITED;
	join_entries(r, block, *end);
	if (fln_planted(FLN_BUG_RELEASED_EARLY)) {
		for (uint64_t b = block; b < *end; b++)
			fln_region_set_released(&r->map, b);
		fln_plant_preempt(FLN_BUG_RELEASED_EARLY, 1);
	}
	/* The waiters' userfaultfd keeps them, and nobody knows of them any more. */
	if (!fln_planted_in(FLN_BUG_RELEASED_UNWOKEN, 2))
		*error = unregister(shard, r, fln_block_addr(r, block), fln_block_addr(r, *end));
	if (*error)
		return release_part(shard, r, block, end, taken, *error);
	fln_release_note_maps(r, nr - taken);
	fln_release_give_back_kept(r);
	return FLN_FATE_DONE;
}

/* Claim, unregister and mark the blocks [block, *end), or as many as can be.  Wakes nobody. */
static enum fln_fate release_run(struct fln_shard *shard, struct fln_region *r, uint64_t block,
				 uint64_t *end, int *error)
{
	enum fln_fate fate;
	uint64_t held;

	fln_lock(&r->guest->release.lock);
	fate = hold(r, block, end);
	held = *end;
	if (fate == FLN_FATE_READY) {
		fate = release_held(shard, r, block, end, error);
		for (uint64_t b = block; b < held; b++) {
			if (fate != FLN_FATE_DONE || b >= *end)
				fln_region_unhold(&r->map, b);
			else if (!fln_planted(FLN_BUG_RELEASED_EARLY))
				fln_region_set_released(&r->map, b);
		}
	}
	fln_unlock(&r->guest->release.lock);
	return fate;
}

enum fln_fate fln_release_run(struct fln_worker *w, struct fln_shard *shard, struct fln_region *r,
			      uint64_t block, uint64_t *end)
{
	uint64_t tried = *end;
	enum fln_fate fate;
	int error = 0;

	fln_rcu_assert_reading();
	FLN_ASSERT(block < *end && *end <= r->map.nr_blocks);
	fate = release_run(shard, r, block, end, &error);
	if (error && (fate == FLN_FATE_LIMITED || fate == FLN_FATE_BUSY))
		log_refused(w, r, fln_block_addr(r, block), error);
	/* Also where it has failed, because some of it may be unregistered. */
	if ((fate == FLN_FATE_DONE || error) && !fln_planted(FLN_BUG_RELEASED_UNWOKEN))
		fln_uffd_wake(&shard->uffd, fln_block_addr(r, block),
			      fln_release_bytes(r, block, tried));
	if (fate != FLN_FATE_DONE)
		return fate;
	fln_count(&shard->count.released_bytes, fln_release_bytes(r, block, *end));
	/* Faults that it holds there end: it looks at them when it is kicked. */
	if (shard->nr_held > 0)
		fln_worker_kick(w);
	fln_block_post_whole(r);
	fln_released_note(r);
	return FLN_FATE_DONE;
}
