/* SPDX-License-Identifier: MIT */
/*
 * Where regions of an image have poison, at most.
 */
#ifndef FLN_SOURCES_IMAGE_POISON_H
#define FLN_SOURCES_IMAGE_POISON_H

#include <stdbool.h>
#include <stdint.h>

struct fln_image;

/*
 * A region is about to have poison on @page, or has it, and is to be told when that is given
 * up.  A thread that looks at the page's state after this sees that it was, or the one that
 * gives it up sees the note.  Async-signal-safe.
 */
void fln_image_note_poison(struct fln_image *image, uint64_t page);

/* Where regions have had poison, at most: [*lo, *hi).  False: nowhere. */
bool fln_image_poison(const struct fln_image *image, uint64_t *lo, uint64_t *hi);

/* May there be poison on some of [page, page + nr)?  After their states were changed. */
bool fln_image_may_have_poison(const struct fln_image *image, uint64_t page, uint64_t nr_pages);

#endif
