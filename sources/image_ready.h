/* SPDX-License-Identifier: MIT */
/*
 * Which pages of an image may be installed, and what the others wait for.
 */
#ifndef FLN_SOURCES_IMAGE_READY_H
#define FLN_SOURCES_IMAGE_READY_H

#include "sources/image.h"

#include <faultlane/stats.h>
#include <stdint.h>

/*
 * The page that decides whether a fault at @page can be resolved: the page itself; in an image
 * of huge pages, the huge page's first FAILED part, or else its first part that is neither FILLED
 * nor ZERO.  RCU read lock held.
 */
uint64_t fln_image_due_page(const struct fln_image *image, uint64_t page);

/*
 * Which of @nr_pages (at most 512) from @page on may be installed: *filled receives those that
 * are FILLED, *zero those that are ZERO.  RCU read lock held.
 */
void fln_image_ready(const struct fln_image *image, uint64_t page, uint32_t nr_pages,
		     struct fln_mask *filled, struct fln_mask *zero);

/* The same for information: *done receives pages FILLED or ZERO, *failed those FAILED. */
void fln_image_known(const struct fln_image *image, uint64_t page, uint32_t nr_pages,
		     struct fln_mask *done, struct fln_mask *failed);

/*
 * The state of the page that decides for a fault at @page, see fln_image_due_page().
 */
enum fln_image_page fln_image_due(const struct fln_image *image, uint64_t page);

/*
 * What a page that is not ready waits for, for messages.  *begun_ns receives when the read of its
 * source began; 0: it waits for something else.  RCU read lock held.
 */
enum fln_waits_for fln_image_waits(struct fln_image *image, uint64_t page, uint64_t *begun_ns);

#endif
