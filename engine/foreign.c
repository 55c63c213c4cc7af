/* SPDX-License-Identifier: MIT */
/*
 * Foreign guests: faults of the kinds that the registering process chose.
 *
 * Whatever modes that process registered, its threads wait for this engine, and waking a thread
 * without having changed anything only makes it fault again, for ever.  So:
 *
 *   WP     The page is mapped and write-protected.  The fault is reported to nobody else, so the
 *          page's protection is lifted.
 *   MINOR  The page is in the page cache of that process's own file, and not mapped; COPY would
 *          fail with EEXIST.  It is mapped as it is if this engine is known to have put it there,
 *          or if it was discarded, because it is the guest's then.  Else its contents are
 *          unknown: it may be a zero page that a read of a hole has left.  Such a page is never
 *          served (I6): it is poisoned, and the guest fails.
 *
 * A fault that cannot be resolved at all fails the guest, with an error in the log, and stays held.
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

/* How long a fault in no region may wait for one to be added there. */
#define REGION_PATIENCE_NS (2 * FLN_NS_PER_S)

static void end_resumed(struct fln_shard *shard, const struct fln_fault *fault)
{
	fln_end_fault(shard, fault, FLN_ENDED_RESUMED, false, fln_now_ns());
}

static void hold_again(struct fln_worker *w, struct fln_shard *shard, struct fln_fault *fault,
		       bool no_memory)
{
	fln_hold(w, shard, fault, fln_fault_again(w, shard, fault, no_memory, false, fln_now_ns()));
}

static void log_failed(struct fln_worker *w, const struct fln_shard *shard, uint64_t addr,
		       const char *why)
{
	fln_log(&w->opts.log, FLN_LOG_ERROR,
		"guest %s has failed: the fault at 0x%" PRIx64 " cannot be resolved: %s",
		shard->guest->name, addr, why);
}

/* Act on the result of a call for a page that is in the cache or mapped.  False: an error. */
static bool settle(struct fln_worker *w, struct fln_shard *shard, struct fln_fault *fault,
		   enum fln_uffd_result result)
{
	switch (result) {
	case FLN_UFFD_OK:
		end_resumed(shard, fault);
		return true;
	case FLN_UFFD_PRESENT:
		fln_uffd_wake(&shard->uffd, fault->addr, FLN_PAGE_BYTES);
		end_resumed(shard, fault);
		return true;
	case FLN_UFFD_AGAIN:
	case FLN_UFFD_NO_MEMORY:
		hold_again(w, shard, fault, result == FLN_UFFD_NO_MEMORY);
		return true;
	case FLN_UFFD_GONE:
		/* munmap() has woken no thread that waits in the range. */
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
		log_failed(w, shard, fault->addr,
			   "its page is write-protected, and the kernel refuses to lift that; "
			   "register pages of 4 KiB, without UFFDIO_REGISTER_MODE_WP");
	fln_hold(w, shard, fault, FLN_HELD_STUCK);
}

/* Is the page in the cache known: put there by this engine, or the guest's after a discard? */
static bool cached_page_is_known(const struct fln_region *region, uint64_t page)
{
	struct fln_mask present =
		fln_blockmap_load(&region->map, FLN_PLANE_PRESENT, page / FLN_BLOCK_PAGES);

	if (fln_region_given_up(&region->map, page))
		return true;
	/* Once any unexpected page was found, PRESENT may stand for another such page. */
	return fln_mask_test(&present, (uint32_t)(page % FLN_BLOCK_PAGES)) &&
	       !atomic_load_explicit(&region->guest->found_pages, memory_order_relaxed);
}

/* The contents of the page in the cache are unknown: they must not be read. */
static void refuse_cached(struct fln_worker *w, struct fln_shard *shard, struct fln_region *region,
			  struct fln_fault *fault)
{
	enum fln_uffd_result result;
	uint64_t done = 0;

	if (fln_guest_fail(shard->guest, -EEXIST))
		log_failed(w, shard, fault->addr,
			   "its page is in the page cache, but this engine has not put it there (a "
			   "minor fault); do not write to memory before it is handed over, and "
			   "register it without UFFDIO_REGISTER_MODE_MINOR");
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

	if (!cached_page_is_known(region, fln_region_page_of(region, fault->addr))) {
		refuse_cached(w, shard, region, fault);
		return true;
	}
	result = fln_uffd_continue(&shard->uffd, fault->addr, FLN_PAGE_BYTES, true, &done);
	if (result == FLN_UFFD_NO_PAGE)
		return false; /* punched out of the cache meanwhile */
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

/* Was a region's memory moved there by mremap()?  Then no region is to come. */
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

	/* Without room it would be put back with the kernel, which wakes by region: this has none. */
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
