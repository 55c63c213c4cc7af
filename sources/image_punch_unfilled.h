/* SPDX-License-Identifier: MIT */
/*
 * Punch the contents that an adopted memfd arrived with out of pages not filled yet.  Called at
 * the end of a private region, so that a later discard cannot expose them.
 */
#ifndef FLN_SOURCES_IMAGE_PUNCH_UNFILLED_H
#define FLN_SOURCES_IMAGE_PUNCH_UNFILLED_H

#include <stdint.h>

struct fln_image;

/*
 * Punch out the pages of the range that are UNFILLED or FAILED.  Their states do not change: a
 * later fill still fills them.  Skips pages that are FILLING.  Does nothing in an attached
 * image, whose owner fills it at a time unknown to us.  The caller is registered with RCU and
 * holds no lock.
 */
void fln_image_punch_unfilled(struct fln_image *image, uint64_t page, uint64_t nr_pages);

#endif
