/* SPDX-License-Identifier: MIT */
/*
 * Closing a region: failing closed (I6).
 *
 * After a userfaultfd is closed the kernel resolves faults itself: cached pages are mapped, and
 * holes read as zeros.  So before a range is unregistered or its userfaultfd closed, every page
 * whose contents are due and not in the cache is made inaccessible: in this process by
 * mprotect() (deny.c), in a foreign guest, whose mappings we cannot change, by poison.  Then the
 * threads that wait for such pages are woken, and refault into a signal.  Threads waiting for
 * filled pages are woken too, here and by UNREGISTER; they refault and find the page cached.
 *
 * Where neither works (an mseal()ed mapping; foreign memory on a kernel without UFFDIO_POISON),
 * the range stays registered and its userfaultfd open for good: a thread that touches an
 * unfilled page blocks forever.  The same happens if the kernel keeps failing the calls with
 * EAGAIN or ENOMEM past the deadline.  In our own memory such pages are poisoned nevertheless
 * where that works: a touch then raises SIGBUS instead of blocking, until the poison is dropped
 * (collapse, MADV_DONTNEED).
 *
 * Workers leave the region's faults alone once `closing` is set and a grace period has passed.
 * Shards stay attached meanwhile, so that workers go on reading events: an unread one would fail
 * every UFFDIO_POISON with EAGAIN.
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
#include "sources/reading.h"

#include <errno.h>
#include <faultlane/base.h>
#include <inttypes.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <time.h>

#define NR_MSGS 16u

/* The pages of a block with home addresses in [start, end). */
static struct fln_mask pages_within(const struct fln_region *r, uint64_t block, uint64_t start,
				    uint64_t end)
{
	uint64_t base = fln_region_addr_of(r, block * FLN_BLOCK_PAGES);
	uint64_t lo = start > base ? start - base : 0;
	uint64_t hi = end - base < FLN_BLOCK_BYTES ? end - base : FLN_BLOCK_BYTES;

	return fln_mask_range((uint32_t)fln_bytes_to_pages(lo), (uint32_t)fln_bytes_to_pages(hi));
}

/* Of those pages, the ones owed contents that are not in the cache. */
static struct fln_mask unfilled_within(const struct fln_region *r, uint64_t block, uint64_t start,
				       uint64_t end)
{
	struct fln_mask within = pages_within(r, block, start, end);
	struct fln_mask pages = fln_region_unsafe(r, block);

	return fln_mask_and(&pages, &within);
}

/* Drain the events of a detached shard.  Returns true if the guest has discarded anything. */
static bool drain_events(struct fln_shard *shard)
{
	struct fln_filler *filler = &shard->guest->engine->filler;
	struct uffd_msg msgs[NR_MSGS];
	bool discarded = false;
	ssize_t nr;

	do {
		fln_filler_closer_begin(filler);
		fln_strays_reading_begin(shard);
		nr = fln_uffd_read(&shard->uffd, msgs, NR_MSGS);
		for (ssize_t i = 0; i < nr; i++) {
			/* Needed although the region closes: other guests may share its image. */
			fln_shard_event(shard, NULL, &msgs[i]);
			discarded |= msgs[i].event == UFFD_EVENT_REMOVE;
		}
		fln_strays_reading_end(shard);
		fln_filler_closer_end(filler);
	} while (nr > 0);
	return discarded;
}

/*
 * The kernel fails calls with ENOMEM while memory is short, and with EAGAIN until the thread that
 * raised an event has run.  Total retry budget per region, so that stopping a guest is bounded.
 */
#define RETRY_BUDGET_NS (10 * FLN_NS_PER_S)
#define YIELD_ROUNDS 16u
#define MAX_DOUBLINGS 6u /* 64 ms */

/* Yield in early rounds, later sleep, ever longer; false once *@waited_ns exceeds the budget. */
static bool backoff(const struct fln_engine *engine, uint64_t *waited_ns, uint32_t round)
{
	uint64_t budget = engine->close_patience_ns, t0 = fln_now_ns();
	uint32_t doublings = round > YIELD_ROUNDS ? round - YIELD_ROUNDS : 0;
	uint64_t planned_ns = 0, passed_ns;

	if (*waited_ns >= (budget ? budget : RETRY_BUDGET_NS))
		return false;
	if (round >= YIELD_ROUNDS)
		planned_ns = FLN_NS_PER_MS
			     << (doublings < MAX_DOUBLINGS ? doublings : MAX_DOUBLINGS);
	if (planned_ns)
		fln_sleep_ns(planned_ns);
	else
		(void)sched_yield();
	/* Time in which the process was stopped does not count. */
	passed_ns = fln_now_ns() - t0;
	*waited_ns += passed_ns - fln_stopped_ns(passed_ns, planned_ns);
	return true;
}

static void log_gave_up(const struct fln_region *r, uint64_t addr)
{
	fln_log_limited(&r->guest->engine->log, &r->guest->log_limit, FLN_LOG_ERROR,
			"guest %s: gave up making unfilled pages at 0x%" PRIx64
			" inaccessible: the kernel kept returning EAGAIN or ENOMEM; the "
			"userfaultfd stays open",
			r->guest->name, addr);
}

/*
 * Poison pages of a block through one shard.  Retries until the region's budget is used up.
 * Returns the pages that could not be poisoned; sets *@poisoned to those that were.
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
		/* Do not use in.again: pages after the first EAGAIN were never attempted. */
		todo = fln_mask_andnot(&todo, poisoned);
		todo = fln_mask_andnot(&todo, &in.present);
		todo = fln_mask_andnot(&todo, &in.gone);
		todo = fln_mask_andnot(&todo, &in.broken);
		refused = fln_mask_or(&refused, &in.broken);
		if (fln_mask_empty(&todo))
			break;
		/* No worker reads a detached shard's events, and an unread one fails every try. */
		if (!shard->worker)
			(void)drain_events(shard);
		if (backoff(r->guest->engine, &r->close_waited_ns, round))
			continue;
		log_gave_up(r, in.block_addr);
		return fln_mask_or(&refused, &todo);
	}
	return refused;
}

/*
 * Make the pages just poisoned PROT_NONE as well: MADV_DONTNEED drops poison, but not protection.
 * That they could be poisoned proves that the range is still ours, even when /proc/self/maps could
 * not be read.
 */
static bool deny_poisoned(struct fln_region *r, uint64_t block, const struct fln_mask *pages)
{
	uint64_t base = fln_region_addr_of(r, block * FLN_BLOCK_PAGES);
	uint32_t lo = 0, hi;

	if (fln_planted(FLN_BUG_END_BY_POISON))
		return true;
	for (; fln_mask_next_run(pages, &lo, &hi); lo = hi) {
		/* Any shard's userfaultfd will do: mprotect() uses none. */
		if (fln_uffd_deny(&r->guest->shards[0].uffd, base + fln_pages_to_bytes(lo),
				  fln_pages_to_bytes(hi - lo)) != 0)
			return false;
	}
	return true;
}

/*
 * Add the discarded pages in [start, end) to *@pages: in a private region they must not show the
 * image.  Return: false if there are any, because poisoning them is not enough: UFFDIO_POISON
 * skips PTEs that map the zero page, and those can be zapped later, which exposes the image.
 */
static bool add_discarded(const struct fln_region *r, uint64_t block, uint64_t start, uint64_t end,
			  struct fln_mask *pages)
{
	struct fln_mask within = pages_within(r, block, start, end), discarded;

	fln_rcu_read_lock();
	discarded = fln_blockmap_load(&r->map, FLN_PLANE_DISCARDED, block);
	fln_rcu_read_unlock();
	discarded = fln_mask_and(&discarded, &within);
	*pages = fln_mask_or(pages, &discarded);
	return fln_mask_empty(&discarded);
}

/*
 * Poison the unfilled pages with home addresses in [start, end) through one shard.  False: some
 * page is still accessible, or, in our own memory, is only poisoned and may become readable
 * again.
 */
static bool poison_range(struct fln_region *r, struct fln_shard *shard, uint64_t start,
			 uint64_t end)
{
	bool done = true;

	while (start < end) {
		uint64_t block = fln_region_page_of(r, start) / FLN_BLOCK_PAGES;
		struct fln_mask pages = unfilled_within(r, block, start, end), refused, poisoned;

		if (r->is_private)
			done &= add_discarded(r, block, start, end, &pages);
		if (!fln_mask_empty(&pages)) {
			r->sealed = true; /* pages become inaccessible, but still map the image */
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

/* Poison every stripe of the region that this shard serves. */
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
	if (!r->unsafe)
		fln_log(&r->guest->engine->log, FLN_LOG_ERROR,
			"guest %s: unfilled pages of the region at 0x%" PRIx64 " cannot be made "
			"inaccessible; threads that touch them will block forever; unmap the "
			"region",
			r->guest->name, r->addr);
	r->unsafe = true;
}

/* Wake all waiters; they refault and get SIGBUS or SIGSEGV. */
static void wake_all(struct fln_region *r)
{
	uint64_t addr, len;
	uint32_t shard;

	for (uint64_t i = 0; fln_stripe_get(&r->plan, i, &addr, &len, &shard); i++)
		fln_uffd_wake(&fln_region_shard(r, shard)->uffd, addr, len);
}

/* An attempt reads /proc/self/maps, which may be long: charge its CPU time to the budget, too. */
static uint64_t cpu_time_ns(void)
{
	struct timespec ts = { 0 };

	(void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * FLN_NS_PER_S + (uint64_t)ts.tv_nsec;
}

static bool deny_with_retries(struct fln_region *r)
{
	for (uint32_t round = 0;; round++) {
		uint64_t before_ns = cpu_time_ns();
		int rc = fln_region_deny(r);

		if (rc == 0)
			return true;
		r->close_waited_ns += cpu_time_ns() - before_ns;
		if (!fln_is_for_now(rc) || !backoff(r->guest->engine, &r->close_waited_ns, round))
			return false;
	}
}

static void make_unfilled_inaccessible(struct fln_region *r)
{
	struct fln_guest *guest = r->guest;

	/* A later discard must not uncover stale bytes of the image in a private region. */
	fln_region_empty_given_up(r);
	if (!r->foreign && deny_with_retries(r)) {
		wake_all(r);
		return;
	}
	for (uint32_t i = 0; i < guest->nr_shards; i++)
		poison_shard(r, fln_region_shard(r, i));
}

static int close_result(const struct fln_region *r)
{
	if (!r->unsafe)
		return 0;
	return fln_fail(EIO,
			"region: unfilled pages at 0x%" PRIx64 " can be neither poisoned nor "
			"protected; their userfaultfd stays open, unmap the region",
			r->addr);
}

int fln_region_close(struct fln_region *region)
{
	bool entered;

	fln_guest_assert_turn(region->guest);
	if (region->closed)
		return close_result(region);
	atomic_store_explicit(&region->closing, true, memory_order_release);
	entered = fln_rcu_enter();
	fln_rcu_synchronize();
	/* After this, workers have finished with every message they read before `closing` was set. */
	fln_guest_pass_workers(region->guest);
	fln_region_deny_grown(region);
	(void)fln_strays_deny_again(region->guest);
	make_unfilled_inaccessible(region);
	fln_rcu_leave(entered);
	region->closed = true;
	return close_result(region);
}

int fln_region_close_rest(struct fln_region *region)
{
	struct fln_guest *guest = region->guest;
	bool entered, discarded = false;

	fln_guest_assert_turn(guest);
	entered = fln_rcu_enter();
	for (uint32_t i = 0; i < guest->nr_shards; i++)
		discarded |= drain_events(fln_region_shard(region, i));
	/* A page discarded since fln_region_close() must not show the image underneath. */
	if (discarded && (region->is_private || region->foreign))
		make_unfilled_inaccessible(region);
	fln_rcu_leave(entered);
	return region->unsafe ? -EIO : 0;
}

void fln_guest_close_strays(struct fln_guest *guest)
{
	uint64_t waited_ns = 0;
	bool entered;

	fln_guest_assert_turn(guest);
	entered = fln_rcu_enter();
	for (uint32_t round = 0; !fln_strays_deny_again(guest); round++) {
		if (!backoff(guest->engine, &waited_ns, round)) {
			fln_strays_give_up(guest);
			break;
		}
	}
	fln_rcu_leave(entered);
}

/*
 * UNREGISTER wakes waiters before it write-locks the VMA; a fault under the per-VMA lock can slip
 * in between and would sleep forever.  Wake again afterwards.
 */
static int unregister(struct fln_shard *shard, uint64_t addr, uint64_t len_bytes)
{
	int rc = fln_uffd_unregister(&shard->uffd, addr, len_bytes);

	fln_uffd_wake(&shard->uffd, addr, len_bytes);
	return rc;
}

/* We cannot inspect another process's VMAs; on EINVAL retry block by block. */
static void unregister_foreign(struct fln_shard *shard, uint64_t addr, uint64_t len_bytes)
{
	uint64_t end = addr + len_bytes, stop;

	if (unregister(shard, addr, len_bytes) != -EINVAL)
		return;
	for (uint64_t at = addr; at < end; at = stop) {
		stop = fln_block_end(at, end);
		(void)unregister(shard, at, stop - at);
	}
}

/* fln_mapping_each() callback: unregister one still-mapped piece, stripe by stripe. */
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
 * close() is not enough: a forked child that has not exec'd holds a reference to the userfaultfd,
 * so its release, which wakes the waiters, would be put off until the child execs or exits.
 */
void fln_region_unregister(struct fln_region *region)
{
	bool replaced = false; /* another mapping lies in some stripe by now */
	uint64_t addr, len, end_of_registered = region->addr;
	uint32_t shard;

	fln_guest_assert_turn(region->guest);
	for (uint64_t i = 0;
	     i < region->nr_registered && fln_stripe_get(&region->plan, i, &addr, &len, &shard);
	     i++) {
		end_of_registered = addr + len;
		if (region->foreign)
			unregister_foreign(fln_region_shard(region, shard), addr, len);
		else
			replaced |=
				unregister(fln_region_shard(region, shard), addr, len) == -EINVAL;
	}
	if (replaced)
		(void)fln_mapping_each(region, region->addr, end_of_registered, 0,
				       unregister_piece);
	region->nr_registered = 0;
}
