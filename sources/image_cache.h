/* SPDX-License-Identifier: MIT */
/*
 * Access to an image's page cache: write, punch out, find holes.
 */
#ifndef FLN_SOURCES_IMAGE_CACHE_H
#define FLN_SOURCES_IMAGE_CACHE_H

#include <stdint.h>

struct fln_image;
struct fln_mask;

/* Write whole pages.  On failure all of them are punched out.  Return: 0; -errno. */
int fln_image_write(struct fln_image *image, uint64_t page, const void *buf, uint32_t nr_pages);

/*
 * Ensure that the page cache reads as zeros at pages that the caller has claimed as FILLING,
 * before it publishes them as ZERO.  Return: 0; -errno.
 */
int fln_image_empty(struct fln_image *image, uint64_t page, uint32_t nr_pages);

/* Punch pages out of the page cache.  Return: 0; -errno. */
int fln_image_punch(struct fln_image *image, uint64_t page, uint64_t nr_pages);
void fln_image_punch_runs(struct fln_image *image, uint64_t page, const struct fln_mask *pages);

/*
 * The length of the hole at @page, at most @nr_pages; 0: the cache has @page.  Not for
 * hugetlbfs, where SEEK_DATA does not tell holes.
 */
uint32_t fln_image_hole(const struct fln_image *image, uint64_t page, uint32_t nr_pages);

#endif
