/* SPDX-License-Identifier: MIT */
/*
 * Userfaultfd events: what the guest's process does to its mappings.
 *
 * The thread that causes an event sleeps until the event is read, and until that thread has run
 * again installs on that userfaultfd fail with EAGAIN.
 *
 * REMOVE is delivered before the kernel zaps the pages.  Pages that are installed in between are
 * zapped, too, and fault again: that loses nothing, because a fault is served whatever the map
 * says.  But a discarded page must not be filled from its source later: so unfilled pages become
 * ZERO here, before any later fault is looked at.  For filled pages the page cache decides:
 * MADV_DONTNEED leaves the page there, MADV_REMOVE takes it out, and install.c finds a hole.
 *
 * The image does not know of discards in private and foreign regions: there the region's own map
 * says which pages read zero from then on (DISCARDED).
 */
#include "engine/events.h"

#include "base/blockmap.h"
#include "base/log.h"
#include "base/page.h"
#include "base/plant.h"
#include "base/rcu.h"
#include "engine/advised.h"
#include "engine/command.h"
#include "engine/directory.h"
#include "engine/doubt.h"
#include "engine/held.h"
#include "engine/lift.h"
#include "engine/region_map.h"
#include "engine/release_ask.h"
#include "engine/state/guest.h"
#include "engine/state/worker.h"
#include "engine/strays.h"
#include "engine/uffd.h"
#include "engine/wanted.h"
#include "sources/filler.h"
#include "sources/image_discard.h"

#include <errno.h>
#include <faultlane/base.h>
#include <faultlane/guest.h>
#include <stdatomic.h>
#include <stdbool.h>

/*
 * What becomes of the map's states of pages that are no longer mapped.  POISONED may have to
 * stay, because the discard may have left the poison (lift.c).
 */
enum forget {
	FORGET,                  /* all are forgotten */
	FORGET_DISCARDED,        /* and become DISCARDED */
	FORGET_POISON_DISCARDED, /* POISONED stays and becomes DISCARDED: zeros are due */
	FORGET_BUT_POISON        /* POISONED stays */
};

/* Forget pages [lo, hi) of one block. */
static void forget_block(struct fln_region *r, uint64_t block, uint32_t lo, uint32_t hi,
			 enum forget how)
{
	bool discarded = how == FORGET_DISCARDED;
	struct fln_mask pages = fln_mask_range(lo, hi), rest = fln_blockmap_valid(&r->map, block);
	int uniform = fln_blockmap_uniform(&r->map, block);
	uint32_t bit = 1u << FLN_PLANE_DISCARDED, to = discarded ? bit : 0;
	struct fln_chunk *c;

	/* The event is older than the release; nothing is installed there any more. */
	if (fln_region_is_released(&r->map, block))
		return;
	/* DISCARDED is never cleared. */
	if (uniform >= 0)
		to |= (uint32_t)uniform & bit;
	if (uniform == (int)to)
		return;
	/* All pages of the block that are in the region. */
	rest = fln_mask_andnot(&rest, &pages);
	if (uniform >= 0 && fln_mask_empty(&rest) &&
	    fln_blockmap_swap_uniform(&r->map, block, (uint32_t)uniform, to))
		return;
	c = fln_blockmap_chunk(&r->map, block);
	while (!c && discarded) {
		/* A discard must be recorded: wait for chunks that are being returned. */
		fln_rcu_read_unlock();
		fln_blockmap_drain(&r->map);
		fln_rcu_read_lock();
		c = fln_blockmap_chunk(&r->map, block);
	}
	if (!c)
		return; /* they stay PRESENT: a wrong hint, which the next fault corrects */
	/* First: a thread that claims a forgotten page must see that it was discarded. */
	if (discarded)
		(void)fln_chunk_set(c, FLN_PLANE_DISCARDED, &pages);
	if (how == FORGET_POISON_DISCARDED || how == FORGET_BUT_POISON)
		fln_region_give_up(c, &pages, how == FORGET_POISON_DISCARDED);
	else
		fln_region_forget(c, &pages);
	atomic_store_explicit(&c->nr_faults, 0, memory_order_relaxed);
	/* Unequal: the block is not quiet at the next look. */
	atomic_store_explicit(&c->nr_faults_seen, UINT16_MAX, memory_order_relaxed);
}

static void forget_range(struct fln_region *r, uint64_t start, uint64_t end, enum forget how)
{
	uint64_t page = fln_region_page_of(r, start), stop = fln_region_page_of(r, end);

	while (page < stop) {
		uint64_t block = page / FLN_BLOCK_PAGES, base = block * FLN_BLOCK_PAGES;
		uint64_t upto = fln_block_end_page(page, stop);

		fln_rcu_read_lock();
		forget_block(r, block, (uint32_t)(page - base), (uint32_t)(upto - base), how);
		fln_rcu_read_unlock();
		page = upto;
	}
}

/*
 * The event does not say whether the discard zaps poison (MADV_DONTNEED) or leaves it
 * (MADV_REMOVE).  Poison that is left but forgotten would never be lifted when zeros become due,
 * perhaps later and by another guest's discard.  Poison that was zapped but not forgotten is
 * found out at the next fault, or in the page tables.
 */
static enum forget what_to_forget(const struct fln_region *r, bool zero, bool quiet)
{
	if (fln_region_keeps_discards(r))
		return FORGET_DISCARDED;
	if (quiet || r->is_private || !fln_lift_serves(r) ||
	    (!zero && fln_planted(FLN_BUG_POISON_UNMARKED)))
		return FORGET;
	return zero ? FORGET_POISON_DISCARDED : FORGET_BUT_POISON;
}

static void remove_served(struct fln_region *r, uint64_t start, uint64_t end)
{
	bool quiet = fln_quiet_takes(r->guest, start, end);
	bool zero = r->discard != FLN_DISCARD_IMAGE && !quiet;
	enum forget how = what_to_forget(r, zero, quiet);

	/* In a private region the guest discards its own copy, never the image's page. */
	if (!r->foreign && !r->is_private && zero)
		fln_image_give_up(r->image, fln_region_image_page(r, fln_region_page_of(r, start)),
				  fln_bytes_to_pages(end - start));
	fln_region_doubt(r, start, end);
	/* The kernel does not zap a part of a huge page: it overwrites that part with zeros. */
	start = fln_align_up(start, r->page_bytes);
	end = fln_align_down(end, r->page_bytes);
	if (start < end)
		forget_range(r, start, end, how);
	if (how == FORGET_POISON_DISCARDED)
		(void)fln_image_lift(r->image,
				     fln_region_image_page(r, fln_region_page_of(r, start)),
				     fln_bytes_to_pages(end - start));
}

/* [start, end) of a region is being discarded.  Memory moved there by mremap() is not its pages. */
static void remove_range(struct fln_region *r, uint64_t start, uint64_t end)
{
	uint64_t at = start;

	if (atomic_load_explicit(&r->nr_strays, memory_order_acquire) == 0) {
		remove_served(r, start, end);
		return;
	}
	for (; start < end; start = at) {
		while (at < end && !fln_region_is_stray(r, at))
			at += FLN_PAGE_BYTES;
		if (start < at)
			remove_served(r, start, at);
		while (at < end && fln_region_is_stray(r, at))
			at += FLN_PAGE_BYTES;
	}
}

typedef void (*range_fn)(struct fln_region *r, uint64_t start, uint64_t end);

static void unmap_range(struct fln_region *r, uint64_t start, uint64_t end)
{
	/* The closer maps over unfilled pages, whatever the map says: spare it the work. */
	if (!r->foreign && atomic_load_explicit(&r->closing, memory_order_acquire))
		return;
	atomic_store_explicit(&r->has_gaps, true, memory_order_relaxed);
	forget_range(r, start, end, FORGET);
}

/*
 * Call @fn for the part of each region in [start, end), outside a read section.  The regions cannot
 * be freed meanwhile: a thread that removes one first waits for a PASS of the worker, which is
 * busy here.
 */
static void each_region(struct fln_shard *shard, uint64_t start, uint64_t end, range_fn fn)
{
	while (start < end) {
		struct fln_region *r;
		uint64_t lo, hi;

		fln_rcu_read_lock();
		r = fln_directory_next(shard->guest, start);
		fln_rcu_read_unlock();
		if (!r || r->addr >= end)
			break;
		lo = r->addr > start ? r->addr : start;
		hi = r->addr + r->len_bytes;
		hi = hi < end ? hi : end;
		fn(r, lo, hi);
		start = hi;
	}
}

static void removed(struct fln_shard *shard, uint64_t start, uint64_t end)
{
	each_region(shard, start, end, remove_range);
	/* Poison may be gone, and discarded foreign pages are the guest's. */
	fln_release_note(shard);
	fln_jobs_look(shard->guest); /* jobs may have zeros to map now: no image's change says so */
}

static void moved(struct fln_shard *shard, uint64_t from, uint64_t to, uint64_t len_bytes)
{
	/* The pages have left @from, even if the VMA stays (MREMAP_DONTUNMAP). */
	each_region(shard, from, from + len_bytes, unmap_range);
	if (fln_planted(FLN_BUG_STRAY_LEFT))
		(void)fln_uffd_unregister(&shard->uffd, to, len_bytes);
	else
		fln_stray_add(shard, from, to, len_bytes);
}

/* munmap() wakes no thread that waits in the range: wake them, to find that it is unmapped. */
static void unmapped(struct fln_worker *w, struct fln_shard *shard, uint64_t start, uint64_t end)
{
	each_region(shard, start, end, unmap_range);
	fln_drop_unmapped(w, shard, start, end);
	fln_wanted_drop(w, shard, start, end);
	fln_uffd_wake(&shard->uffd, start, end - start);
}

void fln_shard_event(struct fln_shard *shard, struct fln_worker *w, const struct uffd_msg *msg)
{
	switch (msg->event) {
	case UFFD_EVENT_REMOVE:
		removed(shard, msg->arg.remove.start, msg->arg.remove.end);
		break;
	case UFFD_EVENT_REMAP:
		moved(shard, msg->arg.remap.from, msg->arg.remap.to, msg->arg.remap.len);
		break;
	case UFFD_EVENT_FORK:
		fln_child_forked(shard->guest, (int)msg->arg.fork.ufd);
		break;
	case UFFD_EVENT_UNMAP:
		if (w)
			unmapped(w, shard, msg->arg.remove.start, msg->arg.remove.end);
		break;
	default:
		if (w)
			fln_log_limited(&w->opts.log, &shard->guest->log_limit, FLN_LOG_WARNING,
					"guest %s: unknown userfaultfd event 0x%x is ignored",
					shard->guest->name, msg->event);
		break;
	}
}
