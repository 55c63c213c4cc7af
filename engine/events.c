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
#include "engine/moves.h"
#include "engine/oldest.h"
#include "engine/region_map.h"
#include "engine/waiting.h"
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

	if (!shard->is_child)
		forget_unmapped(shard, start, end);
	room = fln_shard_cut_moves(shard, start, end);
	if (!room)
		say_no_room(w, shard, start);
	fln_drop_unmapped(w, shard, start, end);
	fln_wanted_drop(w, shard, start, end);
	wake_unmapped(shard, start, end);
}

/*
 * Has the process of a child gone?  Asked with an address that no userfaultfd
 * serves, this code's own: all other answers say that the process is there.
 */
static bool child_is_gone(struct fln_shard *child)
{
	uint64_t addr = fln_align_down((uintptr_t)&fln_event, FLN_PAGE_BYTES);

	return fln_uffd_unregister(&child->uffd, addr, FLN_PAGE_BYTES) == -ENOMEM;
}

/*
 * A slot for a child of @shard, or of a child of it: empty, or of a child whose
 * process has gone.  The slots of a shard are its worker's alone.
 */
static struct fln_shard *take_child_slot(struct fln_worker *w, const struct fln_shard *shard)
{
	struct fln_guest *guest = shard->guest;
	uint32_t first = shard->index * FLN_MAX_CHILDREN;

	if (!guest->children)
		return NULL;
	for (uint32_t i = first; i < first + FLN_MAX_CHILDREN; i++) {
		struct fln_shard *child = fln_child(guest, i);

		if (!child)
			return &guest->children[i];
		if (child == shard || !child_is_gone(child))
			continue;
		fln_worker_unwatch(w, child);
		fln_drop_held(w, child);
		fln_oldest_forget(w, child);
		fln_uffd_close(&child->uffd);
		return child;
	}
	return NULL;
}

static void adopt_child_uffd(struct fln_shard *child, const struct fln_shard *shard, int fd)
{
	/* A slot that is used again goes on counting. */
	uint64_t nr_calls = atomic_load(&child->uffd.nr_calls);
	uint64_t nr_wakes = atomic_load(&child->uffd.nr_wakes);

	fln_uffd_adopt(&child->uffd, fd);
	atomic_store(&child->uffd.nr_calls, nr_calls);
	atomic_store(&child->uffd.nr_wakes, nr_wakes);
	child->uffd.features = shard->uffd.features;
	child->uffd.range_ioctls = shard->uffd.range_ioctls;
}

/*
 * A child was forked that keeps the guest's mappings: its faults come to a
 * userfaultfd of its own.  Served without a map, page by page, because the map
 * speaks of the parent's page tables.
 */
static void serve_child(struct fln_worker *w, struct fln_shard *shard, int fd)
{
	struct fln_shard *child = take_child_slot(w, shard);
	struct fln_guest *guest = shard->guest;
	int rc;

	if (!child) {
		/* Kept open, and so its faults wait: closed, they would read zeros (I6). */
		fln_log_limited(&w->opts.log, &w->log_limit, FLN_LOG_ERROR,
				"guest %s: more than %u forked children at a time; the faults of "
				"one more wait for ever",
				guest->name, FLN_MAX_CHILDREN);
		return;
	}
	fln_lock(&guest->lock);
	adopt_child_uffd(child, shard, fd);
	child->guest = guest;
	child->index = shard->index;
	child->is_child = true;
	child->worker = w;
	atomic_store(&child->unreadable, false);
	/* What the parent had moved lies there in the child too. */
	memcpy(child->moves, shard->moves, sizeof(child->moves));
	atomic_store_explicit(&child->nr_moves, atomic_load(&shard->nr_moves),
			      memory_order_release);
	atomic_store_explicit(&child->keep_open, atomic_load(&shard->keep_open),
			      memory_order_relaxed);
	fln_unlock(&guest->lock);
	/* Last: whoever closes or counts sees all of it (fln_child()). */
	atomic_store_explicit(&child->ready, true, memory_order_release);
	rc = fln_worker_watch(w, child);
	if (rc)
		fln_log_limited(
			&w->opts.log, &w->log_limit, FLN_LOG_ERROR,
			"guest %s: a forked child's userfaultfd cannot be watched (errno %d); "
			"its faults wait for ever",
			guest->name, -rc);
}

void fln_event(struct fln_worker *w, struct fln_shard *shard, const struct uffd_msg *msg)
{
	switch (msg->event) {
	case UFFD_EVENT_REMOVE:
		/* A child's too: the memory is shared, and the source must not bring it back. */
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
		serve_child(w, shard, (int)msg->arg.fork.ufd);
		break;
	default:
		fln_log_limited(&w->opts.log, &w->log_limit, FLN_LOG_WARNING,
				"guest %s: event 0x%x is not known and left alone",
				shard->guest->name, msg->event);
		break;
	}
}
