/* SPDX-License-Identifier: MIT */
/*
 * A conservative range of the pages of an image that regions have poisoned, so that discards
 * elsewhere need not look for poison to lift.
 */
#ifndef FLN_SOURCES_IMAGE_POISON_H
#define FLN_SOURCES_IMAGE_POISON_H

#include <stdbool.h>
#include <stdint.h>

struct fln_image;

/*
 * Record that a region has poisoned @page, or is about to.  A thread that poisons calls this,
 * then reads the page's state; a thread that discards changes the state, then calls
 * fln_image_may_have_poison().  One of the two sees the other.  Async-signal-safe.
 */
void fln_image_note_poison(struct fln_image *image, uint64_t page);

/* Get the range that contains all poison ever: [*lo, *hi).  False: it is empty. */
bool fln_image_poison(const struct fln_image *image, uint64_t *lo, uint64_t *hi);

/* May a region have poison in [page, page + nr)?  Call it after changing the pages' states. */
bool fln_image_may_have_poison(const struct fln_image *image, uint64_t page, uint64_t nr_pages);

#endif
