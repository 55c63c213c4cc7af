/* SPDX-License-Identifier: MIT */
/*
 * Punch out pages that are not filled: contents that an adopted memfd arrived with, and what large
 * folios take beyond the filled pages.
 */
#ifndef FLN_SOURCES_IMAGE_PUNCH_UNFILLED_H
#define FLN_SOURCES_IMAGE_PUNCH_UNFILLED_H

#include <stdbool.h>
#include <stdint.h>

struct fln_fill;
struct fln_image;

/*
 * At the end of a private region, so that a later discard cannot expose what an adopted memfd
 * arrived with: punch out the pages of the range that are UNFILLED or FAILED.  Their states do not
 * change: a later fill still fills them.  Skips pages that are FILLING.  Does nothing in an
 * attached image, whose owner fills it at a time unknown to us.  The caller is registered with RCU
 * and holds no lock.
 */
void fln_image_punch_unfilled(struct fln_image *image, uint64_t page, uint64_t nr_pages);

/*
 * Give back what the large folio of a block takes beyond its filled pages, if it is or was one: the
 * block is small from then on.  Nothing of its contents changes.  Return: how many pages.  Caller
 * as above.
 */
uint32_t fln_image_trim(struct fln_image *image, uint64_t block);

/*
 * fln_image_write(), for pages that the caller has claimed.  Where there is no memory or no room for
 * them, large folios give back what they have to spare.
 */
int fln_image_write_or_trim(struct fln_image *image, uint64_t page, const void *buf,
			    uint32_t nr_pages);

/*
 * Have a filler trim the block of @page, of an image with a source, if more is allocated than may
 * be for long.  Never blocks.  False: no fill is free for it; ask again later.
 */
bool fln_image_ask_trim(struct fln_image *image, uint64_t page);

/* On a filler: what was asked for.  A fill that is cancelled ends without it. */
void fln_image_run_trim(struct fln_image *image, const struct fln_fill *fill);
void fln_image_trim_ended(struct fln_image *image);

#endif
