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
 */
#include "base/error.h"
#include "engine/region_map.h"
#include "engine/worker.h"

#include <errno.h>
#include <sys/epoll.h>

uint64_t fln_shard_unmove(const struct fln_shard *shard, uint64_t addr)
{
	for (uint32_t i = atomic_load_explicit(&shard->nr_moves, memory_order_acquire); i > 0; i--) {
		const struct fln_move *m = &shard->moves[i - 1];

		if (addr >= m->to && addr - m->to < m->len_bytes)
			return m->from + (addr - m->to);
	}
	return addr;
}

/* Pages [lo, hi) of one block are not mapped any more. */
static void forget_block(struct fln_region *r, uint64_t block, uint32_t lo, uint32_t hi,
			 bool discarded)
{
	struct fln_mask pages = fln_mask_range(lo, hi);
	int uniform = fln_blockmap_uniform(&r->map, block);
	uint32_t to = discarded ? 1u << FLN_PLANE_DISCARDED : 0;
	struct fln_chunk *c;

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
		return;	/* the map goes on calling them PRESENT: a hint, mended by the fault */
	fln_region_forget(c, &pages);
	if (discarded)
		(void)fln_chunk_set(c, FLN_PLANE_DISCARDED, &pages);
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
	bool zero = r->discard != FLN_DISCARD_IMAGE;

	if (!r->foreign && zero)
		fln_image_give_up(r->image,
				  fln_region_image_page(r, fln_region_page_of(r, start)),
				  fln_bytes_to_pages(end - start));
	forget_range(r, start, end, r->foreign && zero);
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
	uint64_t at = start;

	while (at < end) {
		uint64_t home = fln_shard_unmove(shard, at), stop;
		struct fln_region *r;

		fln_rcu_read_lock();
		r = fln_directory_find(shard->guest, home);
		fln_rcu_read_unlock();
		if (!r) {
			at = fln_align_down(at, FLN_PAGE_BYTES) + FLN_PAGE_BYTES;
			continue;
		}
		stop = r->addr + r->len_bytes - home < end - at ? at + (r->addr + r->len_bytes - home)
								 : end;
		/* What was moved away ends where its move ends. */
		if (home != at)
			stop = at + FLN_PAGE_BYTES;
		fn(r, home, home + (stop - at));
		at = stop;
	}
}

static void remap(struct fln_worker *w, struct fln_shard *shard, uint64_t from, uint64_t to,
		  uint64_t len_bytes)
{
	uint32_t nr = atomic_load_explicit(&shard->nr_moves, memory_order_relaxed);

	if (nr == FLN_MAX_MOVES) {
		fln_log_limited(&w->opts.log, &w->log_limit, FLN_LOG_ERROR,
				"guest %s: mremap() from 0x%llx: more than %u moves of one shard "
				"are not followed; faults there are not served",
				shard->guest->name, (unsigned long long)from, FLN_MAX_MOVES);
		return;
	}
	shard->moves[nr].from = fln_shard_unmove(shard, from);
	shard->moves[nr].to = to;
	shard->moves[nr].len_bytes = len_bytes;
	atomic_store_explicit(&shard->nr_moves, nr + 1, memory_order_release);
}

/*
 * A child was forked that keeps the guest's mappings: its faults come to a
 * userfaultfd of its own.  Served without a map, page by page, because the map
 * speaks of the parent's page tables.
 */
static void serve_child(struct fln_worker *w, struct fln_shard *shard, int fd)
{
	struct fln_guest *guest = shard->guest;
	uint32_t at = atomic_load_explicit(&guest->nr_children, memory_order_relaxed);
	struct epoll_event ev = { .events = EPOLLIN };
	struct fln_shard *child;

	while (at < FLN_MAX_CHILDREN &&
	       !atomic_compare_exchange_weak(&guest->nr_children, &at, at + 1))
		;
	if (!guest->children || at >= FLN_MAX_CHILDREN) {
		/* Kept open, and so its faults wait: closed, they would read zeros (I6). */
		fln_log_limited(&w->opts.log, &w->log_limit, FLN_LOG_ERROR,
				"guest %s: more than %u userfaultfds of forked children; this "
				"child's faults wait for ever", guest->name, FLN_MAX_CHILDREN);
		return;
	}
	child = &guest->children[at];
	fln_uffd_adopt(&child->uffd, fd);
	child->uffd.features = shard->uffd.features;
	child->uffd.range_ioctls = shard->uffd.range_ioctls;
	child->guest = guest;
	child->index = shard->index;
	child->is_child = true;
	child->worker = w;
	/* What the parent had moved lies there in the child too. */
	memcpy(child->moves, shard->moves, sizeof(child->moves));
	atomic_store_explicit(&child->nr_moves, atomic_load(&shard->nr_moves), memory_order_release);
	ev.data.ptr = child;
	if (epoll_ctl(w->epoll_fd, EPOLL_CTL_ADD, fd, &ev) != 0)
		fln_log_limited(&w->opts.log, &w->log_limit, FLN_LOG_ERROR,
				"guest %s: a forked child's userfaultfd cannot be watched (errno %d); "
				"its faults wait for ever", guest->name, errno);
}

void fln_event(struct fln_worker *w, struct fln_shard *shard, const struct uffd_msg *msg)
{
	switch (msg->event) {
	case UFFD_EVENT_REMOVE:
		/* A child's too: the memory is shared, and the source must not bring it back. */
		each_region(shard, msg->arg.remove.start, msg->arg.remove.end, remove_range);
		break;
	case UFFD_EVENT_UNMAP:
		if (!shard->is_child)
			each_region(shard, msg->arg.remove.start, msg->arg.remove.end, unmap_range);
		wake_unmapped(shard, msg->arg.remove.start, msg->arg.remove.end);
		break;
	case UFFD_EVENT_REMAP:
		remap(w, shard, msg->arg.remap.from, msg->arg.remap.to, msg->arg.remap.len);
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
