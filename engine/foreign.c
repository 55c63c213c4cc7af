/* SPDX-License-Identifier: MIT */
/*
 * Foreign guests: faults of kinds that the process which registered the memory chose.
 *
 * Whatever modes it registered, its threads wait for us, and waking them without having
 * changed anything makes them fault again, for ever.  So:
 *
 *   WP     the page is there and write-protected.  Nobody else can hear of that fault, so
 *          the protection of that page is lifted.
 *   MINOR  the page is in the cache behind the mapping (which is that process's own) and
 *          not mapped.  COPY would say EEXIST.  It is mapped as it is when it is known
 *          that we put it there, or that it was given up: then it is the guest's.  Else
 *          nobody knows what it holds: a zero page that a reader of a hole left behind,
 *          perhaps.  Such a page is never served (I6): it is poisoned and the guest fails.
 *
 * What cannot be resolved at all fails the guest with a sentence; its fault stays held.
 */
#include "engine/foreign.h"

#include "base/blockmap.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/page.h"
#include "base/plant.h"
#include "engine/failure.h"
#include "engine/held.h"
#include "engine/region_map.h"
#include "engine/state/guest.h"
#include "engine/state/worker.h"
#include "engine/uffd.h"
#include "sources/filler.h"

#include <errno.h>
#include <faultlane/base.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdbool.h>

/* How long a fault may wait for the region that it is in to be added. */
#define REGION_PATIENCE_NS (2 * FLN_NS_PER_S)

static void resumed(struct fln_shard *shard, const struct fln_fault *fault)
{
	fln_end_fault(shard, fault, FLN_ENDED_RESUMED, false, fln_now_ns());
}

static void again(struct fln_worker *w, struct fln_shard *shard, struct fln_fault *fault,
		  bool no_memory)
{
	fln_hold(w, shard, fault, fln_fault_again(w, shard, fault, no_memory, false, fln_now_ns()));
}

static void say_failed(struct fln_worker *w, const struct fln_shard *shard, uint64_t addr,
		       const char *why)
{
	fln_log(&w->opts.log, FLN_LOG_ERROR,
		"guest %s has failed: the fault at 0x%" PRIx64 " cannot be resolved: %s",
		shard->guest->name, addr, why);
}

/* What came of a call for a page that is there.  Returns false for an error. */
static bool settle(struct fln_worker *w, struct fln_shard *shard, struct fln_fault *fault,
		   enum fln_uffd_result result)
{
	switch (result) {
	case FLN_UFFD_OK:
		resumed(shard, fault);
		return true;
	case FLN_UFFD_PRESENT:
		fln_uffd_wake(&shard->uffd, fault->addr, FLN_PAGE_BYTES);
		resumed(shard, fault);
		return true;
	case FLN_UFFD_AGAIN:
	case FLN_UFFD_NO_MEMORY:
		again(w, shard, fault, result == FLN_UFFD_NO_MEMORY);
		return true;
	case FLN_UFFD_GONE:
		/* Nothing else tells the threads that wait that their range has gone. */
		fln_uffd_wake(&shard->uffd, fault->addr, FLN_PAGE_BYTES);
		fln_end_fault(shard, fault, FLN_ENDED_FAILED, false, fln_now_ns());
		return true;
	default:
		return false;
	}
}

static void lift_protection(struct fln_worker *w, struct fln_shard *shard, struct fln_fault *fault)
{
	enum fln_uffd_result result = fln_uffd_unprotect(&shard->uffd, fault->addr, FLN_PAGE_BYTES);

	if (settle(w, shard, fault, result))
		return;
	if (fln_guest_fail(shard->guest, -EOPNOTSUPP))
		say_failed(w, shard, fault->addr,
			   "its page is write-protected, and that cannot be lifted here; "
			   "register pages of 4 KiB, without UFFDIO_REGISTER_MODE_WP");
	fln_hold(w, shard, fault, FLN_HELD_STUCK);
}

/* Has what the cache behind the page holds been put there by us, or by the guest's will? */
static bool cache_is_right(const struct fln_region *region, uint64_t page)
{
	struct fln_mask present =
		fln_blockmap_load(&region->map, FLN_PLANE_PRESENT, page / FLN_BLOCK_PAGES);

	if (fln_region_given_up(&region->map, page))
		return true;
	/* PRESENT may be somebody else's page once any has been found there. */
	return fln_mask_test(&present, (uint32_t)(page % FLN_BLOCK_PAGES)) &&
	       !atomic_load_explicit(&region->guest->found_pages, memory_order_relaxed);
}

/* Nobody knows what the page holds: it is not read. */
static void refuse_cached(struct fln_worker *w, struct fln_shard *shard, struct fln_region *region,
			  struct fln_fault *fault)
{
	enum fln_uffd_result result;
	uint64_t done = 0;

	if (fln_guest_fail(shard->guest, -EEXIST))
		say_failed(
			w, shard, fault->addr,
			"its page is in the page cache, where this engine has not put it (a "
			"minor fault); write nothing to memory that is handed over, and register "
			"it without UFFDIO_REGISTER_MODE_MINOR");
	result = fln_uffd_poison(&shard->uffd, fault->addr, FLN_PAGE_BYTES, &done);
	if (result == FLN_UFFD_OK) {
		fln_failure_tell(region, fault->addr, -EEXIST);
		fln_end_fault(shard, fault, FLN_ENDED_POISONED, false, fln_now_ns());
	} else if (!settle(w, shard, fault, result)) {
		fln_hold(w, shard, fault, FLN_HELD_STUCK);
	}
}

static bool map_cached(struct fln_worker *w, struct fln_shard *shard, struct fln_region *region,
		       struct fln_fault *fault)
{
	enum fln_uffd_result result;
	uint64_t done = 0;

	if (!cache_is_right(region, fln_region_page_of(region, fault->addr))) {
		refuse_cached(w, shard, region, fault);
		return true;
	}
	result = fln_uffd_continue(&shard->uffd, fault->addr, FLN_PAGE_BYTES, true, &done);
	if (result == FLN_UFFD_NO_PAGE)
		return false; /* taken out of the cache meanwhile */
	if (!settle(w, shard, fault, result))
		refuse_cached(w, shard, region, fault);
	return true;
}

bool fln_foreign_flagged(struct fln_worker *w, struct fln_shard *shard, struct fln_region *region,
			 struct fln_fault *fault)
{
	if (fln_planted(FLN_BUG_EEXIST_SERVED))
		return false;
	if (fault->kind == FLN_FAULT_PROTECTED) {
		lift_protection(w, shard, fault);
		return true;
	}
	FLN_DEBUG_ASSERT(region && region->foreign);
	if (map_cached(w, shard, region, fault))
		return true;
	fault->kind = FLN_FAULT_MISSING;
	return false;
}

/* mremap() has carried memory of a region there: no region is to come. */
static bool is_moved(const struct fln_shard *shard, uint64_t addr)
{
	for (uint32_t i = 0; i < shard->nr_strays; i++) {
		if (addr - shard->strays[i].addr < shard->strays[i].len_bytes)
			return true;
	}
	return false;
}

bool fln_foreign_await_region(struct fln_worker *w, struct fln_shard *shard,
			      struct fln_fault *fault)
{
	uint64_t now = fln_now_ns();

	/* A fault that is put back with the kernel is woken with its region: this has none. */
	if (atomic_load_explicit(&shard->guest->failed, memory_order_relaxed) ||
	    now - fault->t0_ns >= REGION_PATIENCE_NS || is_moved(shard, fault->addr) ||
	    !fln_may_hold(w, shard))
		return false;
	fault->not_before_ns = fault->t0_ns + REGION_PATIENCE_NS;
	fln_hold(w, shard, fault, FLN_HELD_REGION);
	return true;
}

int fln_foreign_check_region(const struct fln_region *region)
{
	struct fln_shard *shard = &region->guest->shards[0];

	switch (fln_uffd_place(&shard->uffd, region->addr)) {
	case FLN_UFFD_PLACE_HUGE:
		return fln_fail(
			EOPNOTSUPP,
			"region: pages of 4 KiB cannot be copied to 0x%" PRIx64 " of the "
			"process that handed its userfaultfd over: it has huge pages there; "
			"let it map pages of 4 KiB",
			region->addr);
	case FLN_UFFD_PLACE_GONE:
		return fln_fail(ESRCH, "region: the process that handed its userfaultfd over has "
				       "ended; destroy the guest");
	default:
		return 0;
	}
}
