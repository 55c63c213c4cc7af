/* SPDX-License-Identifier: MIT */
/*
 * An image's page cache: contents in, contents out, and where there are none.
 */
#ifndef FLN_SOURCES_IMAGE_CACHE_H
#define FLN_SOURCES_IMAGE_CACHE_H

#include <stdint.h>

struct fln_image;
struct fln_mask;

/* Write whole pages into the page cache.  Return: 0 or -errno. */
int fln_image_write(struct fln_image *image, uint64_t page, const void *buf, uint32_t nr_pages);

/*
 * Have the page cache be empty at pages that are FILLING and the caller's, before they are
 * published as ZERO.  Return: 0 or -errno.
 */
int fln_image_empty(struct fln_image *image, uint64_t page, uint32_t nr_pages);

/* Take pages out of the page cache.  Return: 0 or -errno. */
int fln_image_punch(struct fln_image *image, uint64_t page, uint64_t nr_pages);
void fln_image_punch_runs(struct fln_image *image, uint64_t page, const struct fln_mask *pages);

/* How many pages from @page on the cache lacks, at most @nr_pages; 0: it has @page. */
uint32_t fln_image_hole(const struct fln_image *image, uint64_t page, uint32_t nr_pages);

#endif
