/* SPDX-License-Identifier: MIT */
/*
 * One round of work on a block: claim pages, ask the image, install, settle.
 *
 * For all that maps pages: a worker that serves faults and what is left of windows
 * (serve_block.c), threads that resolve their own faults, populate.
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

/* What is mapped at once of a window; the rest is left for later. */
#define FLN_FRONT_PAGES 16u

/* A block, and what is known of its pages. */
struct fln_block_round {
	struct fln_install in;
	struct fln_chunk *chunk; /* NULL: the pool is empty */
	uint64_t block;
	enum fln_advice advice;
	struct fln_mask claimed;      /* ours */
	struct fln_mask lost;         /* somebody else's */
	struct fln_mask filled, zero; /* what may be installed */
	struct fln_mask later;        /* of the windows, what nobody waits for */
	/* By the thread that faults, in a signal handler: no locks, and nothing put off. */
	bool in_context;
};

/* Of a region of huge pages: the block is one page, and its 512 states move together. */
static inline bool fln_block_is_huge(const struct fln_block_round *b)
{
	return b->in.region->page_bytes == FLN_BLOCK_BYTES;
}

/* Somebody waits for @page, which is added to b->in.faulting; returns which page that is. */
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
 * Claim what is ABSENT of @want, into claimed: all of the block or nothing, where it is
 * a huge page.  There is a chunk.
 */
void fln_block_claim_pages(struct fln_block_round *b, const struct fln_mask *want);

/*
 * Claim the windows of the faults on @pages of the block, b->in.faulting in any case.
 * There is a chunk.  What of the faulting pages is somebody else's is in lost.
 */
void fln_block_claim(struct fln_block_round *b, const struct fln_fault *faults, uint32_t nr,
		     const uint32_t *pages);

/* The same where the pool had no chunk: the faulting pages, and nobody's claim on them. */
void fln_block_go_without(struct fln_block_round *b, const struct fln_fault *faults, uint32_t nr);

/* What of the block may be mapped: fills in filled and zero.  After claiming; RCU read lock held. */
void fln_block_look(struct fln_block_round *b);

/*
 * Map what is there of what is claimed.  Zeros only next to where somebody waits
 * (@zero_too), not later: each takes a page of memory that was none before.  Not so
 * in a private region, where all share the kernel's page of zeros.
 */
void fln_block_install(struct fln_block_round *b, bool zero_too);

/* Give the chunk of a block back if it is whole; tell of it when all of the guest is. */
void fln_block_collapse(struct fln_region *region, uint64_t block, struct fln_chunk *chunk);

/* The claims end: the pages are PRESENT, POISONED or ABSENT again. */
void fln_block_settle(struct fln_block_round *b, const struct fln_mask *poisoned);

/* Note that a block may be whole, in a signal handler; and what a worker does with it. */
void fln_context_note_whole(const struct fln_block_round *b);

#endif
