/* SPDX-License-Identifier: MIT */
/*
 * How the states of an image's pages move, and the fills that move them.
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

/* The one place where states of an image move.  All of @pages is in the state @from. */
void fln_image_move(struct fln_image *image, struct fln_chunk *c, const struct fln_mask *pages,
		    enum fln_image_page from, enum fln_image_page to) FLN_REQUIRES(image->lock);

/* The chunk to change a block in; there is always one.  RCU read lock held. */
struct fln_chunk *fln_image_chunk(struct fln_image *image, uint64_t block)
	FLN_REQUIRES(image->lock);

/* The fill that owns @page, which is FILLING, or NULL. */
struct fln_fill *fln_fill_find(struct fln_image *image, uint64_t page) FLN_REQUIRES(image->lock);

/* Let @fill own pages that are FILLING: of nobody, or taken over. */
void fln_fill_enter(struct fln_image *image, struct fln_fill *fill, uint64_t page,
		    uint32_t nr_pages) FLN_REQUIRES(image->lock);

/*
 * Claim the run of pages from @page on, before @end, that wait to be filled (also
 * those that failed, with @also_failed), for @fill.  False: there is none.
 */
bool fln_fill_begin(struct fln_image *image, struct fln_fill *fill, uint64_t page, uint64_t end,
		    bool also_failed) FLN_REQUIRES(image->lock);

/* The fill owns nothing any more; all its pages are published or taken over. */
void fln_fill_end(struct fln_image *image, struct fln_fill *fill);

/* Which of the pages [lo, hi) of a fill are still its own.  image->lock held. */
struct fln_mask fln_fill_owned(const struct fln_fill *fill, uint32_t lo, uint32_t hi);

/*
 * Publish pages [lo, hi) of a fill in the state @to, those that were given up
 * meanwhile as ZERO, and kick the waiters.
 */
void fln_fill_publish(struct fln_image *image, struct fln_fill *fill, uint32_t lo, uint32_t hi,
		      enum fln_image_page to);

/*
 * An attached image: these pages of a block are FILLED and ZERO in the process
 * whose image it is.  What is so here already stays as it is.
 */
void fln_image_learn(struct fln_image *image, uint64_t block, const struct fln_mask *filled,
		     const struct fln_mask *zero);

/* States of the block of @page have moved: before waiters are kicked. */
void fln_image_note_change(struct fln_image *image, uint64_t page);

/*
 * Those that wait for pages that no fill covers, to be kicked without the lock; rings
 * listeners in other processes.
 */
uint64_t fln_image_take_waiters(struct fln_image *image) FLN_REQUIRES(image->lock);
void fln_image_kick(struct fln_image *image, uint64_t waiters);

/* The state of 4 KiB, for tests and messages. */
enum fln_image_page fln_image_state(const struct fln_image *image, uint64_t page);

#endif
