/* SPDX-License-Identifier: MIT */
/*
 * Events: what the guest's process does to its mappings.
 *
 * The thread that causes an event sleeps until the event is read, and until it
 * has run again installs on that userfaultfd are put off with EAGAIN.
 *
 * REMOVE is delivered before the pages are taken away.  What is installed in
 * between is taken away too, and faults again: nothing is lost by that, because
 * a fault is served whatever the map says.  What must not happen is that a page
 * which was given up is filled from its source later: so pages that were not
 * filled become ZERO here, before the message of any later fault is looked at.
 * For pages that were filled the page cache knows: MADV_DONTNEED leaves it
 * alone, MADV_REMOVE takes the page out, and install.c finds a hole.
 *
 * In a private region the image knows nothing of it: the region's own map says
 * which pages read zero from then on (DISCARDED), as in a foreign one.
 */
#include "engine/events.h"
#include "base/error.h"
#include "engine/context.h"
#include "engine/directory.h"
#include "engine/engine.h"
#include "engine/held.h"
#include "engine/jobs.h"
#include "engine/moves.h"
#include "engine/region_map.h"
#include "engine/strays.h"
#include "engine/wanted.h"
#include "sources/image_state.h"

#include <errno.h>

/* Pages [lo, hi) of one block are not mapped any more. */
static void forget_block(struct fln_region *r, uint64_t block, uint32_t lo, uint32_t hi,
			 bool discarded)
{
	struct fln_mask pages = fln_mask_range(lo, hi);
	int uniform = fln_blockmap_uniform(&r->map, block);
	uint32_t bit = 1u << FLN_PLANE_DISCARDED, to = discarded ? bit : 0;
	struct fln_chunk *c;

	/* What was given up stays so: after a move it is read elsewhere. */
	if (uniform >= 0)
		to |= (uint32_t)uniform & bit;
	if (uniform == (int)to)
		return;
	if (uniform >= 0 && lo == 0 && hi == FLN_BLOCK_PAGES &&
	    fln_blockmap_swap_uniform(&r->map, block, (uint32_t)uniform, to))
		return;
	c = fln_blockmap_chunk(&r->map, block);
	while (!c && discarded) {
		/* Discards must not be forgotten; chunks are on their way back. */
		fln_rcu_read_unlock();
		fln_blockmap_drain(&r->map);
		fln_rcu_read_lock();
		c = fln_blockmap_chunk(&r->map, block);
	}
	if (!c)
		return; /* the map goes on calling them PRESENT: a hint, mended by the fault */
	/* First: who claims a page that is forgotten knows that it was given up. */
	if (discarded)
		(void)fln_chunk_set(c, FLN_PLANE_DISCARDED, &pages);
	fln_region_forget(c, &pages);
	atomic_store_explicit(&c->nr_faults, 0, memory_order_relaxed);
}

static void forget_range(struct fln_region *r, uint64_t start, uint64_t end, bool discarded)
{
	uint64_t page = fln_region_page_of(r, start), stop = fln_region_page_of(r, end);

	while (page < stop) {
		uint64_t block = page / FLN_BLOCK_PAGES, base = block * FLN_BLOCK_PAGES;
		uint64_t upto = base + FLN_BLOCK_PAGES < stop ? base + FLN_BLOCK_PAGES : stop;

		fln_rcu_read_lock();
		forget_block(r, block, (uint32_t)(page - base), (uint32_t)(upto - base), discarded);
		fln_rcu_read_unlock();
		page = upto;
	}
}

/* The guest gave [start, end) of a region up. */
static void remove_range(struct fln_region *r, uint64_t start, uint64_t end)
{
	bool zero = r->discard != FLN_DISCARD_IMAGE && !fln_quiet_takes(r->guest, start, end);

	/* Of a private region the guest gives up its own page, and never the image's. */
	if (!r->foreign && !r->is_private && zero)
		fln_image_give_up(r->image, fln_region_image_page(r, fln_region_page_of(r, start)),
				  fln_bytes_to_pages(end - start));
	/* Of a huge page a part cannot go: the kernel overwrites it with zeros where it is. */
	start = fln_align_up(start, r->page_bytes);
	end = fln_align_down(end, r->page_bytes);
	if (start < end)
		forget_range(r, start, end, fln_region_keeps_discards(r));
}

typedef void (*range_fn)(struct fln_region *r, uint64_t start, uint64_t end);

static void unmap_range(struct fln_region *r, uint64_t start, uint64_t end)
{
	forget_range(r, start, end, false);
}

/* munmap() wakes nobody who waits in the range: let them find that it has gone. */
static void wake_unmapped(struct fln_shard *shard, uint64_t start, uint64_t end)
{
	fln_uffd_wake(&shard->uffd, start, end - start);
}

/*
 * Call @fn for the part of each region in [start, end).  The guest's regions do
 * not go away meanwhile: whoever removes one first takes leave of the worker
 * (fln_worker_command()), which is here.
 */
static void each_region(struct fln_shard *shard, uint64_t start, uint64_t end, range_fn fn)
{
	struct fln_span s;

	for (uint64_t at = start; at < end; at = s.stop) {
		uint64_t home, home_end;

		s = fln_shard_span_at(shard, at, end);
		home = s.home;
		home_end = home + (s.stop - at);
		while (home < home_end) {
			struct fln_region *r;
			uint64_t lo, hi;

			fln_rcu_read_lock();
			r = fln_directory_next(shard->guest, home);
			fln_rcu_read_unlock();
			if (!r || r->addr >= home_end)
				break;
			lo = r->addr > home ? r->addr : home;
			hi = r->addr + r->len_bytes;
			hi = hi < home_end ? hi : home_end;
			fn(r, lo, hi);
			home = hi;
		}
	}
}

void fln_shard_removed(struct fln_shard *shard, uint64_t start, uint64_t end)
{
	each_region(shard, start, end, remove_range);
	fln_jobs_look(shard->guest); /* zeros may be due now, and need no image */
}

static void say_no_room(struct fln_worker *w, const struct fln_shard *shard, uint64_t at)
{
	fln_log_limited(&w->opts.log, &w->log_limit, FLN_LOG_ERROR,
			"guest %s: mremap() or munmap() at 0x%llx: more than %u moves of one "
			"shard are not followed; pages there are not served",
			shard->guest->name, (unsigned long long)at, FLN_MAX_MOVES);
}

/*
 * What lay in [start, end) is not mapped any more; but mremap() tells of the place that
 * it has left, too, and what it took along is mapped, or poisoned, where it is now.
 */
static void forget_unmapped(struct fln_shard *shard, uint64_t start, uint64_t end)
{
	uint32_t nr = atomic_load_explicit(&shard->nr_moves, memory_order_relaxed);
	struct fln_span s;

	for (uint64_t at = start; at < end; at = s.stop) {
		bool away = false;

		s = fln_shard_span_at(shard, at, end);
		for (uint32_t i = 0; i < nr; i++) {
			const struct fln_move *m = &shard->moves[i];
			uint64_t from = at + (m->from - s.home), bound = from;

			if (m->to == from)
				continue; /* it is this one that ends */
			if (s.home >= m->from && s.home - m->from < m->len_bytes) {
				away = true;
				bound += m->len_bytes;
			}
			if (bound > at && bound < s.stop)
				s.stop = bound;
		}
		if (!away)
			each_region(shard, at, s.stop, unmap_range);
	}
}

static void unmap(struct fln_worker *w, struct fln_shard *shard, uint64_t start, uint64_t end)
{
	bool room;

	forget_unmapped(shard, start, end);
	room = fln_shard_cut_moves(shard, start, end);
	if (!room)
		say_no_room(w, shard, start);
	fln_drop_unmapped(w, shard, start, end);
	fln_wanted_drop(w, shard, start, end);
	wake_unmapped(shard, start, end);
}

void fln_event(struct fln_worker *w, struct fln_shard *shard, const struct uffd_msg *msg)
{
	switch (msg->event) {
	case UFFD_EVENT_REMOVE:
		fln_shard_removed(shard, msg->arg.remove.start, msg->arg.remove.end);
		break;
	case UFFD_EVENT_UNMAP:
		unmap(w, shard, msg->arg.remove.start, msg->arg.remove.end);
		break;
	case UFFD_EVENT_REMAP:
		if (!fln_shard_remap(shard, msg->arg.remap.from, msg->arg.remap.to,
				     msg->arg.remap.len))
			say_no_room(w, shard, msg->arg.remap.from);
		break;
	case UFFD_EVENT_FORK:
		fln_child_forked(shard->guest, (int)msg->arg.fork.ufd);
		break;
	default:
		fln_log_limited(&w->opts.log, &w->log_limit, FLN_LOG_WARNING,
				"guest %s: event 0x%x is not known and left alone",
				shard->guest->name, msg->event);
		break;
	}
}
