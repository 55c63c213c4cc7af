/* SPDX-License-Identifier: MIT */
/*
 * Discards: the guest, the embedder or a hole in the page cache makes pages ZERO for good.
 */
#ifndef FLN_SOURCES_IMAGE_DISCARD_H
#define FLN_SOURCES_IMAGE_DISCARD_H

#include <stdbool.h>
#include <stdint.h>

struct fln_image;

/*
 * Make unfilled, filling and failed pages of the range ZERO; with @filled_too, also FILLED
 * ones.  May punch out pages, so the caller holds no lock.
 */
void fln_image_drop(struct fln_image *image, uint64_t page, uint64_t nr_pages, bool filled_too);

/*
 * The guest discarded [page, page + nr), and the kernel has punched or will punch the page
 * cache: pages that are not FILLED become ZERO.
 */
void fln_image_give_up(struct fln_image *image, uint64_t page, uint64_t nr_pages);

/*
 * The page cache lacks @page, which is FILLED: a hole was punched.  Make the pages of the hole
 * ZERO, at most @nr_pages.  Return: the number of pages, at least 1.
 */
uint32_t fln_image_note_hole(struct fln_image *image, uint64_t page, uint32_t nr_pages);

/*
 * [page, page + nr) was discarded: if regions may have poison there, have the waiters lift it.
 * Return: whether they may.
 */
bool fln_image_lift(struct fln_image *image, uint64_t page, uint64_t nr_pages);

#endif
