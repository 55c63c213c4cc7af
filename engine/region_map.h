/* SPDX-License-Identifier: MIT */
/*
 * The page-state map of a region: what we know of its page tables.
 *
 *   ABSENT → CLAIMED → PRESENT | POISONED | ABSENT, PRESENT → ABSENT,
 *   POISONED → ABSENT
 *
 * A hint, never the truth: pages are taken away behind our back.  A fault is
 * served whatever the map says; the map saves calls and picks windows.
 *
 * CLAIMED is a lock: of several threads that want a page, the one whose atomic OR set
 * the bit owns it (I3), and it alone moves it on.  Besides its state a page can
 * be DISCARDED: given up by the guest in memory that is not the page cache's
 * (foreign and private regions): zeros are due there, not the image's contents,
 * from then on and for good: the pages may go once more after zeros have been
 * mapped.  Only the shard's worker may map pages where DISCARDED decides: a REMOVE
 * that another thread's install crosses would be lost.
 */
#ifndef FLN_ENGINE_REGION_MAP_H
#define FLN_ENGINE_REGION_MAP_H

#include "base/blockmap.h"
#include "base/page.h"

#include <stdbool.h>
#include <stdint.h>

enum fln_region_page {
	FLN_PAGE_ABSENT,
	FLN_PAGE_CLAIMED,
	FLN_PAGE_PRESENT,
	FLN_PAGE_POISONED,
	FLN_PAGE_NR_STATES
};

enum {
	FLN_PLANE_CLAIMED,
	FLN_PLANE_PRESENT,
	FLN_PLANE_POISONED,
	FLN_PLANE_DISCARDED
};

/* Claim what is ABSENT of @pages.  Returns what is the caller's now. */
struct fln_mask fln_region_claim(struct fln_chunk *c, const struct fln_mask *pages);

/* Claim a block that is one huge page: all of it, or nothing. */
struct fln_mask fln_region_claim_whole(struct fln_chunk *c);

/*
 * Claim what is POISONED of @pages, to map zeros over it.  It goes on being called so until it
 * is settled as PRESENT: poison that the map has forgotten is lifted by nobody.
 */
struct fln_mask fln_region_claim_poisoned(struct fln_chunk *c, const struct fln_mask *pages);

/*
 * The owner's move of claimed pages to PRESENT, POISONED or back to ABSENT; those of
 * fln_region_claim_poisoned() go to PRESENT or back to POISONED.
 */
void fln_region_settle(struct fln_chunk *c, const struct fln_mask *pages, enum fln_region_page to);

/* PRESENT or POISONED pages of @pages that nobody has claimed become ABSENT. */
void fln_region_forget(struct fln_chunk *c, const struct fln_mask *pages);

/*
 * Pages that were given up, and may be POISONED still, which only mapping zeros over it can
 * lift: those stay so, and if zeros are due become DISCARDED; what is PRESENT becomes ABSENT.
 */
void fln_region_give_up(struct fln_chunk *c, const struct fln_mask *pages, bool zero);

/*
 * Give the chunk of a block back if the block is wholly PRESENT, and wholly or
 * nowhere DISCARDED.  RCU read lock held.  True when it was.
 */
bool fln_region_collapse(struct fln_blockmap *map, uint64_t block, struct fln_chunk *c);

/* Is the page DISCARDED?  RCU read lock held. */
static inline bool fln_region_given_up(const struct fln_blockmap *map, uint64_t page)
{
	struct fln_mask m = fln_blockmap_load(map, FLN_PLANE_DISCARDED, page / FLN_BLOCK_PAGES);

	return fln_mask_test(&m, (uint32_t)(page % FLN_BLOCK_PAGES));
}

/* May a page go from one state to the other?  For tests. */
bool fln_region_may_move(enum fln_region_page from, enum fln_region_page to);

#endif
