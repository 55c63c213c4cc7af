/* SPDX-License-Identifier: MIT */
/*
 * One round of work on a block of 2 MiB: claim pages, ask the image, install, settle.
 *
 * Used by all that maps pages: workers that serve faults and postponed windows
 * (serve_block.c), populate, and threads that resolve their own faults.  The round is its thread's
 * own.  Install calls may sleep; a read section may be open meanwhile.
 */
#ifndef FLN_ENGINE_BLOCK_H
#define FLN_ENGINE_BLOCK_H

#include "base/page.h"
#include "engine/install.h"
#include "engine/state/guest.h"

#include <faultlane/advice.h>
#include <stdbool.h>
#include <stdint.h>

struct fln_chunk;
struct fln_fault;

/* How much of a window is mapped before its faulting thread resumes; the rest is postponed. */
#define FLN_FRONT_PAGES 16u

/* A block, and what the round has found out about its pages. */
struct fln_block_round {
	struct fln_install in;
	struct fln_chunk *chunk; /* NULL: the pool is empty */
	uint64_t block;
	enum fln_advice advice;
	struct fln_mask claimed;      /* by this round */
	struct fln_mask lost;         /* faulting pages that another thread has claimed */
	struct fln_mask filled, zero; /* what the image permits to install */
	struct fln_mask zero_cached;  /* those of filled that are holes, in large folios */
	struct fln_mask later;        /* pages of windows that are mapped after the round */
	/* On the faulting thread, in a signal handler: it takes no lock and postpones nothing. */
	bool in_context;
};

/* In a region of huge pages the block is one page, and its 512 states move together. */
static inline bool fln_block_is_huge(const struct fln_block_round *b)
{
	return b->in.region->page_bytes == FLN_BLOCK_BYTES;
}

/*
 * A thread waits for @page: add it to b->in.faulting.  Returns the page that stands for the fault
 * from then on: the block's first if the block is one huge page.
 */
static inline uint32_t fln_block_fault(struct fln_block_round *b, uint32_t page)
{
	if (fln_block_is_huge(b)) {
		b->in.faulting = fln_mask_range(0, FLN_BLOCK_PAGES);
		return 0;
	}
	fln_mask_set(&b->in.faulting, page);
	return page;
}

/*
 * Claim the ABSENT pages of @want; b->claimed is what was won.  A huge page is claimed as a whole
 * or not at all.  Requires b->chunk.
 */
void fln_block_claim_pages(struct fln_block_round *b, const struct fln_mask *want);

/*
 * Open the windows of the faults on @pages of the block, and claim b->in.faulting and what is to
 * be mapped at once of the windows.  Faulting pages that another thread has claimed go to
 * b->lost, what is to be mapped after the round to b->later.  Requires b->chunk.
 */
void fln_block_claim(struct fln_block_round *b, const struct fln_fault *faults, uint32_t nr,
		     const uint32_t *pages);

/* The same if the pool had no chunk: the faulting pages only, and they are not claimed. */
void fln_block_go_without(struct fln_block_round *b, const struct fln_fault *faults, uint32_t nr);

/* Is the page, which was mapped, one of the image's holes, whichever call has mapped it? */
static inline bool fln_block_is_zero(const struct fln_block_round *b, uint32_t page)
{
	return fln_mask_test(&b->in.zeroed, page) || fln_mask_test(&b->zero_cached, page);
}

/* Set b->filled and b->zero: what may be mapped.  After claiming.  RCU read lock held. */
void fln_block_look(struct fln_block_round *b);

/*
 * Map the claimed pages that may be mapped.  Of a shared region zeros only with @zero_too, where
 * a thread waits nearby: each allocates a page.  In a private region all zeros map the kernel's
 * zero page.
 */
void fln_block_install(struct fln_block_round *b, bool zero_too);

/* Free the chunk of a block that is whole; post FLN_EVENT_GUEST_WHOLE if all blocks are. */
void fln_block_collapse(struct fln_region *region, uint64_t block, struct fln_chunk *chunk);

/* Blocks of the region have become whole or were released: post the same event. */
void fln_block_post_whole(struct fln_region *region);

/* End the claims: pages become PRESENT, POISONED (those of @poisoned) or ABSENT again. */
void fln_block_settle(struct fln_block_round *b, const struct fln_mask *poisoned);

/*
 * If the block is whole, note it for a worker to collapse (fln_context_collapse()).
 * Async-signal-safe.
 */
void fln_context_note_whole(const struct fln_block_round *b);

#endif
