/* SPDX-License-Identifier: MIT */
/*
 * How the states of an image's pages move, and the fills that move them.
 *
 * For the files that make up an image: image.c (life, and what faults ask of it),
 * fill.c (from the source), image_put.c (contents that are brought).
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
 * meanwhile as ZERO, and kick who waits.
 */
void fln_fill_publish(struct fln_image *image, struct fln_fill *fill, uint32_t lo, uint32_t hi,
		      enum fln_image_page to);

/*
 * An attached image: these pages of a block are FILLED and ZERO in the process
 * whose image it is.  What is so here already stays as it is.
 */
void fln_image_learn(struct fln_image *image, uint64_t block, const struct fln_mask *filled,
		     const struct fln_mask *zero);

/* Take pages out of the page cache.  Return: 0 or -errno. */
int fln_image_punch(struct fln_image *image, uint64_t page, uint64_t nr_pages);
void fln_image_punch_runs(struct fln_image *image, uint64_t page, const struct fln_mask *pages);

/* What is not filled in the range becomes ZERO; with @filled_too, what is as well. */
void fln_image_drop(struct fln_image *image, uint64_t page, uint64_t nr_pages, bool filled_too);

/* fill.c: write whole pages into the page cache.  Return: 0 or -errno. */
int fln_image_write(struct fln_image *image, uint64_t page, const void *buf, uint32_t nr_pages);

/* fill.c: read a fill from the source and publish it.  Return: the first error. */
int fln_fill_run(struct fln_image *image, struct fln_fill *fill, void *buffer);

/* image_put.c: an attached image is not changed from here.  Return: -EOPNOTSUPP. */
int fln_image_not_ours(const struct fln_image *image, const char *call);

/*
 * Which page of the image a fault at @page waits for: itself, or of its huge page the
 * first part that has failed, or else that is not there.  RCU read lock held.
 */
uint64_t fln_image_due_page(const struct fln_image *image, uint64_t page);

/* huge.c: as fln_image_write() and fln_image_punch(), for hugetlb. */
int fln_huge_write(struct fln_image *image, uint64_t page, const void *buf, uint32_t nr_pages);
int fln_huge_punch(struct fln_image *image, uint64_t page, uint64_t nr_pages);

/*
 * huge.c: a call for @nr_pages huge pages has failed with @err for want of them.
 * Return: -err, with a sentence that counts them.
 */
int fln_huge_fail(const struct fln_image *image, int err, uint64_t nr_pages);

/* huge.c: can images of huge pages be written here?  Return: 0; -EOPNOTSUPP with the mend. */
int fln_huge_check(const struct fln_image *image);

/*
 * image_put.c: is the range of a call in the image, and a multiple of @unit_bytes?
 * Return: 0; -EINVAL.
 */
int fln_image_check_range(const struct fln_image *image, uint64_t offset_bytes, uint64_t len_bytes,
			  uint64_t unit_bytes);

#endif
