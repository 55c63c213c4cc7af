/* SPDX-License-Identifier: MIT */
/*
 * The page-state map of a region: what is known of its page tables.
 *
 *   ABSENT → CLAIMED → PRESENT | POISONED | ABSENT, PRESENT → ABSENT,
 *   POISONED → ABSENT
 *
 * A hint, never the truth: the kernel zaps pages without telling.  A fault is served whatever the
 * map says; the map saves calls and chooses windows.
 *
 * CLAIMED is a lock: of several threads that want a page, the one whose atomic OR has set the bit
 * owns the page (I3), and it alone moves it on.  Any thread may claim, also in a signal handler;
 * nothing here blocks.
 *
 * A block that has been released from its userfaultfd (release.c) is in one state as a whole, for
 * good, and has no chunk: nothing moves its pages any more.  On the way there its pages are all
 * claimed, also where the block has no chunk: then its uniform state is CLAIMED beside what it was.
 * Other threads may make a chunk of that (a thread in context, confirm.c), in which all pages are
 * claimed, so that they get none; the releasing thread then goes on with the chunk.
 *
 * Besides its state a page can be DISCARDED, in foreign and private regions, whose discards the
 * page cache does not know of: zeros are due there from then on, not the image's contents, and
 * for good, because the page may be zapped once more after zeros were mapped.  Only the shard's
 * worker may map pages in regions where DISCARDED decides: another thread's install could cross
 * a REMOVE and bring the contents back.
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

/* Claim the ABSENT pages of @pages.  Returns those that the caller owns now. */
struct fln_mask fln_region_claim(struct fln_chunk *c, const struct fln_mask *pages);

/* Claim a block that is one huge page: all of its states, or none. */
struct fln_mask fln_region_claim_whole(struct fln_chunk *c);

/*
 * Claim the POISONED pages of @pages, to map zeros over the poison.  They stay POISONED as well
 * until they are settled as PRESENT: poison that the map has forgotten would never be lifted.
 */
struct fln_mask fln_region_claim_poisoned(struct fln_chunk *c, const struct fln_mask *pages);

/*
 * End the caller's claims: pages become PRESENT, POISONED or ABSENT again; those claimed by
 * fln_region_claim_poisoned() become PRESENT or POISONED again.
 */
void fln_region_settle(struct fln_chunk *c, const struct fln_mask *pages, enum fln_region_page to);

/* Those PRESENT or POISONED pages of @pages that no thread has claimed become ABSENT. */
void fln_region_forget(struct fln_chunk *c, const struct fln_mask *pages);

/*
 * Pages were discarded whose poison may still be in the page tables: PRESENT becomes ABSENT, while
 * POISONED stays and, with @zero, becomes DISCARDED as well: zeros are to be mapped over it.
 */
void fln_region_give_up(struct fln_chunk *c, const struct fln_mask *pages, bool zero);

/*
 * Free the chunk of a block whose pages are all PRESENT, and all or none of them DISCARDED.
 * RCU read lock held.  True: it was freed.
 */
bool fln_region_collapse(struct fln_blockmap *map, uint64_t block, struct fln_chunk *c);

/* The state of a released block.  To readers of planes its pages are PRESENT: there for the guest. */
#define FLN_REGION_RELEASED ((1u << FLN_PLANE_PRESENT) | FLN_MAP_CLOSED)

/* Does the kernel serve the block? */
static inline bool fln_region_is_released(const struct fln_blockmap *map, uint64_t block)
{
	return fln_blockmap_uniform(map, block) == (int)FLN_REGION_RELEASED;
}

enum fln_region_hold {
	FLN_HOLD_OK,
	FLN_HOLD_BUSY,     /* some thread has claimed a page */
	FLN_HOLD_POISONED, /* a page is POISONED */
};

/*
 * Claim all pages of a block, whatever their states, to release it; undo that; or end it: the block
 * is released.  RCU read lock held; one thread at a time for each block.
 */
enum fln_region_hold fln_region_hold(struct fln_blockmap *map, uint64_t block);
void fln_region_unhold(struct fln_blockmap *map, uint64_t block);
void fln_region_set_released(struct fln_blockmap *map, uint64_t block);

/* Is the page DISCARDED?  RCU read lock held. */
static inline bool fln_region_given_up(const struct fln_blockmap *map, uint64_t page)
{
	struct fln_mask m = fln_blockmap_load(map, FLN_PLANE_DISCARDED, page / FLN_BLOCK_PAGES);

	return fln_mask_test(&m, (uint32_t)(page % FLN_BLOCK_PAGES));
}

/* May a page go from one state to the other?  For tests. */
bool fln_region_may_move(enum fln_region_page from, enum fln_region_page to);

#endif
