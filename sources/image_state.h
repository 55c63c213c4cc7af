/* SPDX-License-Identifier: MIT */
/*
 * The states of an image's pages, their transitions, and the fills that cause them.
 */
#ifndef FLN_SOURCES_IMAGE_STATE_H
#define FLN_SOURCES_IMAGE_STATE_H

#include "sources/image.h"

enum {
	FLN_IMAGE_PLANE_FILLING,
	FLN_IMAGE_PLANE_FILLED,
	FLN_IMAGE_PLANE_ZERO,
	FLN_IMAGE_PLANE_FAILED
};

/* Pages of a chunk that are in a state.  Exact only under image->lock. */
struct fln_mask fln_image_in_state(const struct fln_chunk *c, enum fln_image_page state);

/* Move @pages, which are all in the state @from, to @to.  Nothing else changes states. */
void fln_image_move(struct fln_image *image, struct fln_chunk *c, const struct fln_mask *pages,
		    enum fln_image_page from, enum fln_image_page to) FLN_REQUIRES(image->lock);

/* The chunk of a block, to change states in; never NULL.  RCU read lock held. */
struct fln_chunk *fln_image_chunk(struct fln_image *image, uint64_t block)
	FLN_REQUIRES(image->lock);

/* The fill that owns @page; NULL: the page is not FILLING. */
struct fln_fill *fln_fill_find(struct fln_image *image, uint64_t page) FLN_REQUIRES(image->lock);

/* Make @fill the owner of pages that are FILLING, and have no owner or were taken over. */
void fln_fill_enter(struct fln_image *image, struct fln_fill *fill, uint64_t page,
		    uint32_t nr_pages) FLN_REQUIRES(image->lock);

/*
 * Claim for @fill the run of UNFILLED pages from @page on, up to @end; with @also_failed FAILED
 * pages count too.  False: @page is in another state.
 */
bool fln_fill_begin(struct fln_image *image, struct fln_fill *fill, uint64_t page, uint64_t end,
		    bool also_failed) FLN_REQUIRES(image->lock);

/* Unlink a fill, all of whose pages have been published or taken over. */
void fln_fill_end(struct fln_image *image, struct fln_fill *fill);

/* The pages of [lo, hi) that a fill still owns.  image->lock held. */
struct fln_mask fln_fill_owned(const struct fln_fill *fill, uint32_t lo, uint32_t hi);

/*
 * Publish pages [lo, hi) of a fill in the state @to, or as ZERO if they were discarded
 * meanwhile, and kick the waiters.  Blocks for event readers (reading.h); no lock held.
 */
void fln_fill_publish(struct fln_image *image, struct fln_fill *fill, uint32_t lo, uint32_t hi,
		      enum fln_image_page to);

/*
 * In an attached image: pages of a block are FILLED or ZERO in the owner's process, so make
 * them so here.  Pages that are FILLED or ZERO already do not change.
 */
void fln_image_learn(struct fln_image *image, uint64_t block, const struct fln_mask *filled,
		     const struct fln_mask *zero);

/* Count a change of the block of @page, before waiters are kicked. */
void fln_image_note_change(struct fln_image *image, uint64_t page);

/*
 * Take the waiters of pages that no fill covers, which the caller kicks after unlocking.  Also
 * notifies the listeners of other processes.
 */
uint64_t fln_image_take_waiters(struct fln_image *image) FLN_REQUIRES(image->lock);
void fln_image_kick(struct fln_image *image, uint64_t waiters);

/* The state of a page of 4 KiB, for tests and messages. */
enum fln_image_page fln_image_state(const struct fln_image *image, uint64_t page);

#endif
