/* SPDX-License-Identifier: MIT */
/*
 * Closing a region: failing closed (I6).
 *
 * The kernel goes on serving a mapping whose userfaultfd is closed: what is in
 * the page cache reads its contents, and what is not reads zeros.  So before
 * anything is closed or unregistered, every page whose contents are due and not
 * there is made unreadable: in this process's memory by taking the access away (deny.c), in
 * another's, whose mappings are not ours to change, by poison.  Then the threads
 * that wait there are woken, into a signal; those that wait for other pages are woken with
 * them, and when the range is unregistered, and find them in the cache.
 *
 * Where neither can be done (a sealed mapping, a kernel without POISON and another's memory),
 * the range stays registered and its userfaultfd open for good: a thread that touches it waits
 * for ever.  The same comes of a kernel that puts calls off for too long: want of memory.
 * Of our own memory that range is poisoned, so that a touch is a signal while the poison lasts.
 *
 * Workers leave the region alone from the moment that closing is set and a grace
 * period has passed.  Their shards stay attached meanwhile, so that events are
 * read and installs are not put off for ever.
 */
#include "engine/life/closing.h"

#include "base/blockmap.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/page.h"
#include "base/plant.h"
#include "base/rcu.h"
#include "engine/command.h"
#include "engine/events.h"
#include "engine/install.h"
#include "engine/life/deny.h"
#include "engine/mapping.h"
#include "engine/region_map.h"
#include "engine/state/engine.h"
#include "engine/state/guest.h"
#include "engine/strays.h"
#include "engine/turn.h"
#include "engine/uffd.h"
#include "sharding/stripes.h"
#include "sources/filler.h"

#include <errno.h>
#include <faultlane/base.h>
#include <inttypes.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <time.h>

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

/* Nobody reads the events of a shard that no worker has: read them here.  Was anything given up? */
static bool read_events(struct fln_shard *shard)
{
	struct fln_filler *filler = &shard->guest->engine->filler;
	struct uffd_msg msgs[16];
	bool removed = false;
	ssize_t nr;

	do {
		fln_filler_closer_begin(filler);
		fln_strays_reading_begin(shard);
		nr = fln_uffd_read(&shard->uffd, msgs, 16);
		for (ssize_t i = 0; i < nr; i++) {
			/* Other guests may share the image: for them it is given up, too. */
			fln_shard_event(shard, NULL, &msgs[i]);
			removed |= msgs[i].event == UFFD_EVENT_REMOVE;
		}
		fln_strays_reading_end(shard);
		fln_filler_closer_end(filler);
	} while (nr > 0);
	return removed;
}

/*
 * The kernel puts calls off while it has no memory, or until the thread whose event was read
 * has run.  For how long in all that is waited for, region by region: a caller that stops a guest
 * is not kept for ever.
 */
#define PATIENCE_NS (10 * FLN_NS_PER_S)
#define SHORT_WAITS 16u
#define MAX_DOUBLINGS 6u /* 64 ms */

/* A while, longer each round, on top of *@waited_ns.  False: that was all the patience there is. */
static bool wait_a_little(const struct fln_engine *engine, uint64_t *waited_ns, uint32_t round)
{
	uint64_t patience = engine->close_patience_ns, t0 = fln_now_ns();
	uint32_t doublings = round > SHORT_WAITS ? round - SHORT_WAITS : 0;
	uint64_t planned_ns = 0, passed_ns;

	if (*waited_ns >= (patience ? patience : PATIENCE_NS))
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
	*waited_ns += passed_ns - fln_stopped_ns(passed_ns, planned_ns);
	return true;
}

static void say_impatient(const struct fln_region *r, uint64_t addr)
{
	fln_log_limited(&r->guest->engine->log, &r->guest->log_limit, FLN_LOG_ERROR,
			"guest %s: the kernel does not make what was never filled at 0x%" PRIx64
			" unreadable, for want of memory or because a thread that changes the "
			"mapping does not run; its userfaultfd stays open",
			r->guest->name, addr);
}

/*
 * Poison pages of a block through one shard, until it is done, or has been put off for too
 * long.  Returns the pages that the kernel refuses; into *poisoned those that are.
 */
static struct fln_mask poison_block(struct fln_region *r, struct fln_shard *shard, uint64_t block,
				    const struct fln_mask *pages, struct fln_mask *poisoned)
{
	struct fln_mask todo = *pages, refused = { { 0 } };

	memset(poisoned, 0, sizeof(*poisoned));
	for (uint32_t round = 0; !fln_mask_empty(&todo); round++) {
		struct fln_install in = { .shard = shard, .region = r };

		in.block_page = block * FLN_BLOCK_PAGES;
		in.block_addr = fln_region_addr_of(r, in.block_page);
		in.faulting = todo;
		fln_install_poison(&in, &todo, poisoned);
		/* Not in.again: what came after a call that was put off was not tried at all. */
		todo = fln_mask_andnot(&todo, poisoned);
		todo = fln_mask_andnot(&todo, &in.present);
		todo = fln_mask_andnot(&todo, &in.gone);
		todo = fln_mask_andnot(&todo, &in.broken);
		refused = fln_mask_or(&refused, &in.broken);
		if (fln_mask_empty(&todo))
			break;
		if (!shard->worker)
			(void)read_events(shard);
		if (wait_a_little(r->guest->engine, &r->close_waited_ns, round))
			continue;
		say_impatient(r, in.block_addr);
		return fln_mask_or(&refused, &todo);
	}
	return refused;
}

/*
 * Take the access to pages away that have been poisoned, and so are the region's: where it is
 * not known what is mapped where.
 */
static bool deny_poisoned(struct fln_region *r, uint64_t block, const struct fln_mask *pages)
{
	uint64_t base = fln_region_addr_of(r, block * FLN_BLOCK_PAGES);
	uint32_t lo = 0, hi;

	if (fln_planted(FLN_BUG_END_BY_POISON))
		return true;
	for (; fln_mask_next_run(pages, &lo, &hi); lo = hi) {
		if (fln_uffd_deny(&r->guest->shards[0].uffd, base + fln_pages_to_bytes(lo),
				  fln_pages_to_bytes(hi - lo)) != 0)
			return false;
	}
	return true;
}

/*
 * What was given up in a private region must not show the image.  Poison leaves the page of
 * zeros alone, and that may go: false, where there is any.
 */
static bool add_given_up(const struct fln_region *r, uint64_t block, uint64_t start, uint64_t end,
			 struct fln_mask *pages)
{
	struct fln_mask within = pages_within(r, block, start, end), m;

	fln_rcu_read_lock();
	m = fln_blockmap_load(&r->map, FLN_PLANE_DISCARDED, block);
	fln_rcu_read_unlock();
	m = fln_mask_and(&m, &within);
	*pages = fln_mask_or(pages, &m);
	return fln_mask_empty(&m);
}

/*
 * Poison what is unsafe in [start, end), home addresses, through one shard.  False: something
 * is still readable, or in our own memory could be again.
 */
static bool poison_range(struct fln_region *r, struct fln_shard *shard, uint64_t start,
			 uint64_t end)
{
	bool done = true;

	while (start < end) {
		uint64_t block = fln_region_page_of(r, start) / FLN_BLOCK_PAGES;
		struct fln_mask pages = unsafe_within(r, block, start, end), refused, poisoned;

		if (r->is_private)
			done &= add_given_up(r, block, start, end, &pages);
		if (!fln_mask_empty(&pages)) {
			r->sealed = true;
			if (!fln_uffd_can_poison(&shard->uffd))
				return false;
			refused = poison_block(r, shard, block, &pages, &poisoned);
			done &= fln_mask_empty(&refused);
			if (!r->foreign)
				done &= deny_poisoned(r, block, &poisoned);
		}
		start = fln_block_end(start, end);
	}
	return done;
}

/* All that a shard has of a region. */
static void poison_shard(struct fln_region *r, struct fln_shard *shard)
{
	uint64_t addr, len;
	uint32_t of;
	bool done = true;

	for (uint64_t i = 0; fln_stripe_get(&r->plan, i, &addr, &len, &of); i++) {
		if (of == shard->index)
			done &= poison_range(r, shard, addr, addr + len);
	}
	if (done)
		return;
	atomic_store_explicit(&shard->keep_open, true, memory_order_relaxed);
	r->unsafe = true;
}

/* The access to them has gone: the threads that wait there find that. */
static void wake_all(struct fln_region *r)
{
	uint64_t addr, len;
	uint32_t shard;

	for (uint64_t i = 0; fln_stripe_get(&r->plan, i, &addr, &len, &shard); i++)
		fln_uffd_wake(&fln_region_shard(r, shard)->uffd, addr, len);
}

/* An attempt reads /proc/self/maps, which may be long: its work counts, too. */
static uint64_t worked_ns(void)
{
	struct timespec ts = { 0 };

	(void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * FLN_NS_PER_S + (uint64_t)ts.tv_nsec;
}

static bool deny(struct fln_region *r)
{
	for (uint32_t round = 0;; round++) {
		uint64_t before_ns = worked_ns();
		int rc = fln_region_deny(r);

		if (rc == 0)
			return true;
		r->close_waited_ns += worked_ns() - before_ns;
		if (!fln_is_for_now(rc) ||
		    !wait_a_little(r->guest->engine, &r->close_waited_ns, round))
			return false;
	}
}

static void close_shards(struct fln_region *r)
{
	struct fln_guest *guest = r->guest;

	fln_region_empty_given_up(r);
	if (!r->foreign && deny(r)) {
		wake_all(r);
		return;
	}
	for (uint32_t i = 0; i < guest->nr_shards; i++)
		poison_shard(r, fln_region_shard(r, i));
}

static int result(const struct fln_region *r)
{
	if (!r->unsafe)
		return 0;
	fln_log(&r->guest->engine->log, FLN_LOG_ERROR,
		"guest %s: the region at 0x%" PRIx64 " has pages that are not filled and cannot be "
		"made unreadable; threads that touch them wait for ever, unmap the region",
		r->guest->name, r->addr);
	return fln_fail(EIO,
			"region: pages at 0x%" PRIx64 " that were never filled can be neither "
			"poisoned nor protected; their userfaultfd stays open, unmap them",
			r->addr);
}

int fln_region_close(struct fln_region *region)
{
	bool entered;

	fln_guest_assert_turn(region->guest);
	if (region->closed)
		return region->unsafe ? result(region) : 0;
	atomic_store_explicit(&region->closing, true, memory_order_release);
	entered = fln_rcu_enter();
	fln_rcu_synchronize();
	/* An event or a fault that was read before has been acted upon after this. */
	fln_guest_pass_workers(region->guest);
	fln_region_deny_grown(region);
	(void)fln_strays_deny_again(region->guest);
	close_shards(region);
	fln_rcu_leave(entered);
	region->closed = true;
	return result(region);
}

int fln_region_close_rest(struct fln_region *region)
{
	struct fln_guest *guest = region->guest;
	bool entered = fln_rcu_enter(), removed = false;

	fln_guest_assert_turn(region->guest);
	for (uint32_t i = 0; i < guest->nr_shards; i++)
		removed |= read_events(fln_region_shard(region, i));
	/* What was given up so late must not show what lies under it. */
	if (removed && (region->is_private || region->foreign))
		close_shards(region);
	fln_rcu_leave(entered);
	return region->unsafe ? -EIO : 0;
}

void fln_guest_close_strays(struct fln_guest *guest)
{
	bool entered = fln_rcu_enter();
	uint64_t waited_ns = 0;

	fln_guest_assert_turn(guest);
	for (uint32_t round = 0; !fln_strays_deny_again(guest); round++) {
		if (!wait_a_little(guest->engine, &waited_ns, round)) {
			fln_strays_give_up(guest);
			break;
		}
	}
	fln_rcu_leave(entered);
}

/*
 * UNREGISTER wakes the waiters, but before it takes the mapping's lock: a fault
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
		stop = fln_block_end(at, end);
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

/*
 * Not left to close(): a forked child that has not called exec keeps the
 * userfaultfd open, and so the threads that wait would wait as long as it lives.
 */
void fln_region_unregister(struct fln_region *region)
{
	bool cut = false; /* something else lies in a stripe by now */
	uint64_t addr, len;
	uint32_t shard;

	fln_guest_assert_turn(region->guest);
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
	region->nr_registered = 0;
}
