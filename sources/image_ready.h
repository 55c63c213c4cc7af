/* SPDX-License-Identifier: MIT */
/*
 * What of an image may be mapped, and what a page waits for that may not.
 */
#ifndef FLN_SOURCES_IMAGE_READY_H
#define FLN_SOURCES_IMAGE_READY_H

#include "sources/image.h"

#include <faultlane/stats.h>
#include <stdint.h>

/*
 * Which page of the image a fault at @page waits for: itself, or of its huge page the
 * first part that has failed, or else that is not there.  RCU read lock held.
 */
uint64_t fln_image_due_page(const struct fln_image *image, uint64_t page);

/*
 * Which of @nr_pages (at most 512) from @page on may be installed: FILLED, and
 * into *zero those that are ZERO.  RCU read lock held.
 */
void fln_image_ready(const struct fln_image *image, uint64_t page, uint32_t nr_pages,
		     struct fln_mask *filled, struct fln_mask *zero);

/* The same, for information: which are FILLED or ZERO, and which have FAILED. */
void fln_image_known(const struct fln_image *image, uint64_t page, uint32_t nr_pages,
		     struct fln_mask *done, struct fln_mask *failed);

/*
 * Of the page that a fault at @page waits for, the state that decides: its own, or, in
 * an image of huge pages, that of the first part that has failed or is not there.
 */
enum fln_image_page fln_image_due(const struct fln_image *image, uint64_t page);

/*
 * What a page that is not there waits for, for messages; and since when its source
 * is being read: 0 unless it is that.  RCU read lock held.
 */
enum fln_waits_for fln_image_waits(struct fln_image *image, uint64_t page, uint64_t *begun_ns);

#endif
