/* SPDX-License-Identifier: MIT */
/*
 * A conservative range of the pages of an image that regions have poisoned.  It only grows.
 *
 * The fences implement the store-load order that image_poison.h describes.
 */
#include "sources/image_poison.h"

#include "sources/image.h"

#include <stdatomic.h>

void fln_image_note_poison(struct fln_image *image, uint64_t page)
{
	uint64_t lo = atomic_load(&image->poison_lo), hi = atomic_load(&image->poison_hi);

	while (page < lo && !atomic_compare_exchange_weak(&image->poison_lo, &lo, page))
		;
	while (page >= hi && !atomic_compare_exchange_weak(&image->poison_hi, &hi, page + 1))
		;
	/* If the page was recorded before, nothing was written above: order the later reads. */
	atomic_thread_fence(memory_order_seq_cst);
}

bool fln_image_poison(const struct fln_image *image, uint64_t *lo, uint64_t *hi)
{
	*hi = atomic_load(&image->poison_hi);
	*lo = atomic_load(&image->poison_lo);
	return *hi > *lo;
}

bool fln_image_may_have_poison(const struct fln_image *image, uint64_t page, uint64_t nr_pages)
{
	uint64_t lo, hi;

	atomic_thread_fence(memory_order_seq_cst);
	return fln_image_poison(image, &lo, &hi) && page < hi && page + nr_pages > lo;
}
