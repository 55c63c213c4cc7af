/* SPDX-License-Identifier: MIT */
/*
 * Contents that are given up: by a guest, by the embedder, or by a hole in the page cache.
 */
#ifndef FLN_SOURCES_IMAGE_DISCARD_H
#define FLN_SOURCES_IMAGE_DISCARD_H

#include <stdbool.h>
#include <stdint.h>

struct fln_image;

/* What is not filled in the range becomes ZERO; with @filled_too, what is as well. */
void fln_image_drop(struct fln_image *image, uint64_t page, uint64_t nr_pages, bool filled_too);

/*
 * The guest gave [page, page + nr) up, and the kernel has taken or will take
 * away what the cache had: what was not filled is ZERO from now on.
 */
void fln_image_give_up(struct fln_image *image, uint64_t page, uint64_t nr_pages);

/*
 * The cache has no page at @page, which was called FILLED: a hole was punched.
 * Marks the pages up to the next one in the cache ZERO, at most @nr_pages.
 * Return: how many pages of the hole there are, at least 1.
 */
uint32_t fln_image_note_hole(struct fln_image *image, uint64_t page, uint32_t nr_pages);

/* [page, page + nr) was given up: if it may have poison the waiters lift it.  Return: whether. */
bool fln_image_lift(struct fln_image *image, uint64_t page, uint64_t nr_pages);

#endif
