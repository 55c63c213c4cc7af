/* SPDX-License-Identifier: MIT */
/*
 * Taking away what an adopted memfd came with, where the image is not filled.
 */
#ifndef FLN_SOURCES_IMAGE_EMPTY_H
#define FLN_SOURCES_IMAGE_EMPTY_H

#include <stdint.h>

struct fln_image;

/*
 * Have the page cache be empty where the range is not filled.  What it is due does not change:
 * a fill that begins later fills it.  Not where a fill is under way, and not in an attached
 * image, whose owner fills it at a time that nobody here knows.
 */
void fln_image_empty_unfilled(struct fln_image *image, uint64_t page, uint64_t nr_pages);

#endif
