/* SPDX-License-Identifier: MIT */
/*
 * Closing a region: failing closed (I6).
 *
 * The kernel goes on serving a mapping whose userfaultfd is closed: what is in
 * the page cache reads its contents, and what is not reads zeros.  So before
 * anything is closed or unregistered, every page whose contents are due and not
 * there is poisoned, wherever mremap() has put it.  That
 * wakes the threads that wait for these pages, into a SIGBUS; whoever waits for
 * another page is woken when its range is unregistered, and finds it in the cache.
 *
 * Long runs of blocks of which nothing is filled are mapped over instead (cover.c).
 *
 * In a private region what the guest gave up is mapped as zeros before: unserved it
 * would read the image again.  That cannot cover a discard that is still under way.
 *
 * A kernel that cannot poison: the access is taken away, by whole stripes, which
 * are mappings of their own: single pages would need a mapping each.  Where that
 * cannot be done either (another process, a sealed mapping), the range stays
 * registered and its userfaultfd open for good: who touches it waits for ever.
 * The same comes of a kernel that puts calls off for too long: want of memory.
 *
 * Workers leave the region alone from the moment that closing is set and a grace
 * period has passed.  Their shards stay attached meanwhile, so that events are
 * read and installs are not put off for ever.
 */
#include "engine/closing.h"
#include "base/clock.h"
#include "base/error.h"
#include "engine/cover.h"
#include "engine/engine.h"
#include "engine/events.h"
#include "engine/guest.h"
#include "engine/install.h"
#include "engine/mapping.h"
#include "engine/moves.h"
#include "engine/region_map.h"
#include "engine/strays.h"
#include "sources/image_state.h"

#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <sys/mman.h>
#include <time.h>

struct fln_mask fln_region_unsafe(const struct fln_region *r, uint64_t block)
{
	struct fln_mask valid = fln_blockmap_valid(&r->map, block), safe = { { 0 } }, m;
	uint32_t lo = fln_mask_next_set(&valid, 0), hi = fln_mask_next_clear(&valid, lo);
	struct fln_mask filled, zero;

	if (fln_region_is_covered(r, block))
		return safe;
	fln_rcu_read_lock();
	if (r->foreign) {
		/* Nothing but what is mapped is there; what was discarded is zero. */
		safe = fln_blockmap_load(&r->map, FLN_PLANE_PRESENT, block);
		m = fln_blockmap_load(&r->map, FLN_PLANE_DISCARDED, block);
		safe = fln_mask_or(&safe, &m);
		fln_rcu_read_unlock();
		return fln_mask_andnot(&valid, &safe);
	}
	/* The map may be wrong about PRESENT; the image is not about FILLED. */
	fln_image_ready(r->image, fln_region_image_page(r, block * FLN_BLOCK_PAGES + lo), hi - lo,
			&filled, &zero);
	m = fln_blockmap_load(&r->map, FLN_PLANE_DISCARDED, block);
	fln_rcu_read_unlock();
	/* In a private region: close_zeros() has mapped zeros there. */
	valid = fln_mask_andnot(&valid, &m);
	safe = fln_mask_or(&filled, &zero);
	safe = fln_mask_up(&safe, lo);
	return fln_mask_andnot(&valid, &safe);
}

/* The pages of a block with home addresses in [start, end). */
static struct fln_mask pages_within(const struct fln_region *r, uint64_t block, uint64_t start,
				    uint64_t end)
{
	uint64_t base = fln_region_addr_of(r, block * FLN_BLOCK_PAGES);
	uint64_t lo = start > base ? start - base : 0;
	uint64_t hi = end - base < FLN_BLOCK_BYTES ? end - base : FLN_BLOCK_BYTES;

	return fln_mask_range((uint32_t)fln_bytes_to_pages(lo), (uint32_t)fln_bytes_to_pages(hi));
}

/* Of them, those that are unsafe. */
static struct fln_mask unsafe_within(const struct fln_region *r, uint64_t block, uint64_t start,
				     uint64_t end)
{
	struct fln_mask within = pages_within(r, block, start, end);
	struct fln_mask pages = fln_region_unsafe(r, block);

	return fln_mask_and(&pages, &within);
}

/* Of them, those that were given up. */
static struct fln_mask given_up_within(const struct fln_region *r, uint64_t block, uint64_t start,
				       uint64_t end)
{
	struct fln_mask within = pages_within(r, block, start, end);
	struct fln_mask pages;

	fln_rcu_read_lock();
	pages = fln_blockmap_load(&r->map, FLN_PLANE_DISCARDED, block);
	fln_rcu_read_unlock();
	return fln_mask_and(&pages, &within);
}

/* Nobody reads the events of a shard that no worker has: read them here. */
static void read_events(struct fln_shard *shard)
{
	struct fln_filler *filler = &shard->guest->engine->filler;
	struct uffd_msg msgs[16];
	ssize_t nr;

	do {
		fln_filler_closer_begin(filler);
		fln_shard_reading_begin(shard);
		nr = fln_uffd_read(&shard->uffd, msgs, 16);
		for (ssize_t i = 0; i < nr; i++) {
			const struct uffd_msg *m = &msgs[i];

			if (m->event == UFFD_EVENT_REMAP)
				(void)fln_shard_remap(shard, m->arg.remap.from, m->arg.remap.to,
						      m->arg.remap.len);
			/* Other guests may share the image: for them it is given up, too. */
			if (m->event == UFFD_EVENT_REMOVE)
				fln_shard_removed(shard, m->arg.remove.start, m->arg.remove.end);
			if (m->event == UFFD_EVENT_FORK)
				fln_child_forked(shard->guest, (int)m->arg.fork.ufd);
		}
		fln_shard_reading_end(shard);
		fln_filler_closer_end(filler);
	} while (nr > 0);
}

/*
 * The kernel puts calls off while it has no memory, or until the thread whose event was read
 * has run.  For how long in all that is waited for, region by region: whoever stops a guest
 * is not kept for ever.
 */
#define PATIENCE_NS (10 * FLN_NS_PER_S)
#define SHORT_WAITS 16u
#define MAX_DOUBLINGS 6u /* 64 ms */

/* A while, longer each round.  False: that was all the patience there is. */
static bool wait_a_little(struct fln_region *r, uint32_t round)
{
	uint64_t patience = r->guest->engine->close_patience_ns, t0 = fln_now_ns();
	uint32_t doublings = round > SHORT_WAITS ? round - SHORT_WAITS : 0;
	uint64_t planned_ns = 0, passed_ns;

	if (r->close_waited_ns >= (patience ? patience : PATIENCE_NS))
		return false;
	if (round >= SHORT_WAITS)
		planned_ns = FLN_NS_PER_MS
			     << (doublings < MAX_DOUBLINGS ? doublings : MAX_DOUBLINGS);
	if (planned_ns)
		fln_sleep_ns(planned_ns);
	else
		(void)sched_yield();
	/* Not the time in which the process was stopped. */
	passed_ns = fln_now_ns() - t0;
	r->close_waited_ns += passed_ns - fln_stopped_ns(passed_ns, planned_ns);
	return true;
}

static void say_impatient(const struct fln_region *r, uint64_t addr)
{
	fln_log_limited(&r->guest->engine->log, &r->guest->engine->guard.fault_limit, FLN_LOG_ERROR,
			"guest %s: the kernel does not make what was never filled at 0x%" PRIx64
			" unreadable, for want of memory or because a thread that changes the "
			"mapping does not run; the access to it is taken away",
			r->guest->name, addr);
}

/*
 * Poison pages of a block through one shard, or map zeros there (@zero), until it
 * is done, or has been put off for too long.  @moved is how far mremap() has carried
 * them.  Returns the pages that the kernel refuses.
 */
static struct fln_mask close_block(struct fln_region *r, struct fln_shard *shard, uint64_t block,
				   const struct fln_mask *pages, uint64_t moved, bool zero)
{
	struct fln_mask todo = *pages, poisoned = { { 0 } }, refused = { { 0 } };

	for (uint32_t round = 0; !fln_mask_empty(&todo); round++) {
		struct fln_install in = { .shard = shard, .region = r };

		in.block_page = block * FLN_BLOCK_PAGES;
		in.block_addr = fln_region_addr_of(r, in.block_page) + moved;
		if (zero) {
			/* Who waits for a page that is mapped is woken by UNREGISTER. */
			fln_install_zero(&in, &todo);
		} else {
			in.faulting = todo;
			fln_install_poison(&in, &todo, &poisoned);
		}
		/* Not in.again: what came after a call that was put off was not tried at all. */
		todo = fln_mask_andnot(&todo, &poisoned);
		todo = fln_mask_andnot(&todo, &in.present);
		todo = fln_mask_andnot(&todo, &in.gone);
		todo = fln_mask_andnot(&todo, &in.broken);
		refused = fln_mask_or(&refused, &in.broken);
		if (fln_mask_empty(&todo))
			break;
		if (!shard->worker)
			read_events(shard);
		if (wait_a_little(r, round))
			continue;
		say_impatient(r, in.block_addr);
		return fln_mask_or(&refused, &todo);
	}
	return refused;
}

/* Take the access to what was given up in a piece away: it can be neither zero nor poisoned. */
static int deny_given_up(struct fln_region *r, uint64_t addr, uint64_t len_bytes, uint64_t moved)
{
	uint64_t at = addr - moved, end = at + len_bytes, stop;

	for (; at < end; at = stop) {
		uint64_t block = fln_region_page_of(r, at) / FLN_BLOCK_PAGES;
		uint64_t base = fln_region_addr_of(r, block * FLN_BLOCK_PAGES) + moved;
		struct fln_mask pages = given_up_within(r, block, at, end);
		uint32_t lo = 0, hi;

		for (; fln_mask_next_run(&pages, &lo, &hi); lo = hi) {
			if (mprotect((void *)(uintptr_t)(base + fln_pages_to_bytes(lo)),
				     fln_pages_to_bytes(hi - lo), PROT_NONE) != 0)
				return -errno;
		}
		stop = fln_align_down(at, FLN_BLOCK_BYTES) + FLN_BLOCK_BYTES;
	}
	return 0;
}

/*
 * What was given up in a private region is zero because nothing else is mapped
 * there: unserved, a page that is not mapped would read the image's contents.  The
 * map may be wrong about PRESENT, so all of it is asked for; what has a page
 * already, the guest's own, stays.  What cannot be zero is made unreadable.
 */
static void close_zeros(struct fln_region *r, struct fln_shard *shard, uint64_t start, uint64_t end,
			uint64_t moved)
{
	uint64_t stop;

	for (; r->is_private && start < end; start = stop) {
		uint64_t block = fln_region_page_of(r, start) / FLN_BLOCK_PAGES;
		struct fln_mask pages = given_up_within(r, block, start, end);

		stop = fln_align_down(start, FLN_BLOCK_BYTES) + FLN_BLOCK_BYTES;
		pages = close_block(r, shard, block, &pages, moved, true);
		if (fln_mask_empty(&pages))
			continue;
		r->sealed = true;
		pages = close_block(r, shard, block, &pages, moved, false);
		if (fln_mask_empty(&pages))
			continue;
		/* All the rest at once, and only where the region's mapping still is. */
		if (fln_mapping_each_seen(r, start + moved, end + moved, moved, deny_given_up) == 0)
			return;
		atomic_store_explicit(&shard->keep_open, true, memory_order_relaxed);
		r->unsafe = true;
		return;
	}
}

/* Poison what is unsafe in [start, end), home addresses, through one shard. */
static bool poison_range(struct fln_region *r, struct fln_shard *shard, uint64_t start,
			 uint64_t end, uint64_t moved)
{
	bool done = true;

	while (start < end) {
		uint64_t block = fln_region_page_of(r, start) / FLN_BLOCK_PAGES;
		struct fln_mask pages = unsafe_within(r, block, start, end);

		if (!fln_mask_empty(&pages)) {
			r->sealed = true;
			if (!fln_uffd_can_poison(&shard->uffd))
				return false;
			pages = close_block(r, shard, block, &pages, moved, false);
			done &= fln_mask_empty(&pages);
		}
		start = fln_align_down(start, FLN_BLOCK_BYTES) + FLN_BLOCK_BYTES;
	}
	return done;
}

/* Take the access to the stripes of a piece away that have pages which are unsafe. */
static int deny_piece(struct fln_region *r, uint64_t addr, uint64_t len_bytes, uint64_t moved)
{
	uint64_t at = addr - moved, end = at + len_bytes, stop;
	int rc = 0;

	for (; at < end; at = stop) {
		uint64_t stripe = 0, stripe_len = 0;
		bool unsafe = false;
		uint32_t shard;

		(void)fln_stripe_get(&r->plan, fln_stripe_index(&r->plan, at), &stripe, &stripe_len,
				     &shard);
		stop = stripe + stripe_len < end ? stripe + stripe_len : end;
		for (uint64_t a = at; !unsafe && a < stop;
		     a = fln_align_down(a, FLN_BLOCK_BYTES) + FLN_BLOCK_BYTES) {
			struct fln_mask pages =
				unsafe_within(r, fln_region_page_of(r, a) / FLN_BLOCK_PAGES, a,
					      stop);

			unsafe = !fln_mask_empty(&pages);
		}
		if (unsafe && mprotect((void *)(uintptr_t)(at + moved), stop - at, PROT_NONE) != 0)
			rc = -errno;
	}
	return rc;
}

/* All that is at home, at once and once: what is safe stays so. */
static bool deny_home(struct fln_region *r)
{
	if (!r->denied)
		r->undeniable =
			fln_mapping_each(r, r->addr, r->addr + r->len_bytes, 0, deny_piece) != 0;
	r->denied = true;
	return !r->undeniable;
}

/* The part of a move that is the region's; empty when start >= end. */
struct moved_part {
	uint64_t start, end; /* home addresses */
	uint64_t moved;
};

static struct moved_part moved_part(const struct fln_region *r, const struct fln_move *m)
{
	uint64_t r_end = r->addr + r->len_bytes, m_end = m->from + m->len_bytes;
	struct moved_part p = {
		.start = m->from > r->addr ? m->from : r->addr,
		.end = m_end < r_end ? m_end : r_end,
		.moved = m->to - m->from,
	};

	return p;
}

/* All that a shard has of a region: at home, where @home says so, and moved. */
static void close_shard(struct fln_region *r, struct fln_shard *shard, bool home)
{
	struct fln_move moves[FLN_MAX_MOVES];
	uint64_t addr, len;
	uint32_t of;
	bool done = true;

	for (uint64_t i = 0; home && fln_stripe_get(&r->plan, i, &addr, &len, &of); i++) {
		if (of != shard->index)
			continue;
		close_zeros(r, shard, addr, addr + len, 0);
		done &= poison_range(r, shard, addr, addr + len, 0);
	}
	if (!done && !r->foreign)
		done = deny_home(r);
	for (uint32_t i = 0, nr = fln_shard_moves(shard, moves); i < nr; i++) {
		struct moved_part p = moved_part(r, &moves[i]);

		if (p.start >= p.end)
			continue;
		close_zeros(r, shard, p.start, p.end, p.moved);
		if (poison_range(r, shard, p.start, p.end, p.moved))
			continue;
		if (r->foreign ||
		    fln_mapping_each(r, p.start + p.moved, p.end + p.moved, p.moved, deny_piece))
			done = false;
	}
	if (done)
		return;
	atomic_store_explicit(&shard->keep_open, true, memory_order_relaxed);
	r->unsafe = true;
}

static void close_shards(struct fln_region *r, bool home)
{
	struct fln_guest *guest = r->guest;

	for (uint32_t i = 0; i < guest->nr_shards; i++)
		close_shard(r, fln_region_shard(r, i), home);
}

static int result(const struct fln_region *r)
{
	if (!r->unsafe)
		return 0;
	fln_log(&r->guest->engine->log, FLN_LOG_ERROR,
		"guest %s: the region at 0x%" PRIx64 " has pages that are not filled and cannot be "
		"made unreadable; who touches it waits for ever",
		r->guest->name, r->addr);
	return fln_fail(EIO,
			"region: pages at 0x%" PRIx64 " that were never filled can be neither "
			"poisoned nor protected; their userfaultfd stays open, unmap them",
			r->addr);
}

int fln_region_close(struct fln_region *region)
{
	bool entered;

	if (region->closed)
		return region->unsafe ? result(region) : 0;
	atomic_store_explicit(&region->closing, true, memory_order_release);
	entered = fln_rcu_enter();
	fln_rcu_synchronize();
	/* An event or a fault that was read before has been acted upon after this. */
	fln_guest_pass_workers(region->guest);
	fln_region_cover(region);
	close_shards(region, true);
	fln_rcu_leave(entered);
	region->closed = true;
	return result(region);
}

int fln_region_close_rest(struct fln_region *region)
{
	struct fln_guest *guest = region->guest;
	bool entered = fln_rcu_enter();

	for (uint32_t i = 0; i < guest->nr_shards; i++)
		read_events(fln_region_shard(region, i));
	close_shards(region, false);
	fln_rcu_leave(entered);
	return region->unsafe ? -EIO : 0;
}

/*
 * UNREGISTER wakes who waits, but before it takes the mapping's lock: a fault
 * that comes in between sleeps on a userfaultfd that has forgotten it.
 */
static int unregister(struct fln_shard *shard, uint64_t addr, uint64_t len_bytes)
{
	int rc = fln_uffd_unregister(&shard->uffd, addr, len_bytes);

	fln_uffd_wake(&shard->uffd, addr, len_bytes);
	return rc;
}

/* In another process we cannot look what is left of a range: block by block. */
static void unregister_unseen(struct fln_shard *shard, uint64_t addr, uint64_t len_bytes)
{
	uint64_t end = addr + len_bytes, stop;

	if (unregister(shard, addr, len_bytes) != -EINVAL)
		return;
	for (uint64_t at = addr; at < end; at = stop) {
		stop = fln_align_down(at, FLN_BLOCK_BYTES) + FLN_BLOCK_BYTES;
		stop = stop < end ? stop : end;
		(void)unregister(shard, at, stop - at);
	}
}

/* A piece at its home, cut by stripes: what could not be unregistered as a whole. */
static int unregister_piece(struct fln_region *r, uint64_t addr, uint64_t len_bytes, uint64_t moved)
{
	uint64_t end = addr + len_bytes, stop;

	(void)moved;
	for (uint64_t at = addr; at < end; at = stop) {
		uint64_t stripe = 0, stripe_len = 0;
		uint32_t shard = 0;

		(void)fln_stripe_get(&r->plan, fln_stripe_index(&r->plan, at), &stripe, &stripe_len,
				     &shard);
		stop = stripe + stripe_len < end ? stripe + stripe_len : end;
		(void)unregister(fln_region_shard(r, shard), at, stop - at);
	}
	return 0;
}

static void unregister_moved(struct fln_region *r, struct fln_shard *shard)
{
	struct fln_move moves[FLN_MAX_MOVES];

	for (uint32_t i = 0, nr = fln_shard_moves(shard, moves); i < nr; i++) {
		struct moved_part p = moved_part(r, &moves[i]);

		if (p.start < p.end)
			(void)unregister(shard, p.start + p.moved, p.end - p.start);
	}
}

/*
 * Not left to close(): a forked child that has not called exec keeps the
 * userfaultfd open, and so whoever waits would wait as long as it lives.
 */
void fln_region_unregister(struct fln_region *region)
{
	struct fln_guest *guest = region->guest;
	bool cut = false; /* something else lies in a stripe by now */
	uint64_t addr, len;
	uint32_t shard;

	for (uint64_t i = 0;
	     i < region->nr_registered && fln_stripe_get(&region->plan, i, &addr, &len, &shard);
	     i++) {
		if (region->foreign)
			unregister_unseen(fln_region_shard(region, shard), addr, len);
		else
			cut |= unregister(fln_region_shard(region, shard), addr, len) == -EINVAL;
	}
	if (cut)
		(void)fln_mapping_each(region, region->addr, addr + len, 0, unregister_piece);
	for (uint32_t i = 0; i < guest->nr_shards; i++)
		unregister_moved(region, fln_region_shard(region, i));
	region->nr_registered = 0;
}
