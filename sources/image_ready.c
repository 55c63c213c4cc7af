/* SPDX-License-Identifier: MIT */
/*
 * Which pages of an image may be installed, and what the others wait for.
 *
 * States are read without a lock, which is safe because a page that is FILLED or ZERO stays one
 * of the two.  Nothing is changed here.
 */
#include "sources/image_ready.h"

#include "base/blockmap.h"
#include "base/error.h"
#include "base/lock.h"
#include "base/page.h"
#include "base/plant.h"
#include "base/rcu.h"
#include "sources/filler.h"
#include "sources/image.h"
#include "sources/image_state.h"

#include <faultlane/stats.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/mman.h>

/*
 * A huge page may be installed when all of its parts may.  If any part is FILLED the page cache
 * has the huge page, with zeros in its ZERO parts.
 */
static void ready_whole(const struct fln_image *image, uint64_t page, uint32_t nr_pages,
			struct fln_mask *filled, struct fln_mask *zero)
{
	uint64_t base = fln_align_down(page, FLN_BLOCK_PAGES);
	struct fln_mask done, none = { { 0 } };

	FLN_ASSERT(page + nr_pages <= base + FLN_BLOCK_PAGES);
	if (nr_pages < FLN_BLOCK_PAGES) {
		*filled = fln_blockmap_load_span(&image->map, FLN_IMAGE_PLANE_FILLED, base,
						 FLN_BLOCK_PAGES);
		*zero = fln_blockmap_load_span(&image->map, FLN_IMAGE_PLANE_ZERO, base,
					       FLN_BLOCK_PAGES);
		*filled = fln_mask_andnot(filled, zero);
	}
	done = fln_mask_or(filled, zero);
	if (fln_mask_count(&done) < FLN_BLOCK_PAGES) {
		*filled = none;
		*zero = none;
	} else if (!fln_mask_empty(filled)) {
		*filled = fln_mask_range(0, nr_pages);
		*zero = none;
	} else {
		*zero = fln_mask_range(0, nr_pages);
	}
}

/* For two planted bugs: pages in the page cache, or failed pages, count as filled. */
static struct fln_mask plant_cached(const struct fln_image *image, uint64_t page, uint32_t nr_pages,
				    const struct fln_mask *filled)
{
	struct fln_mask m = *filled, failed;
	unsigned char vec[FLN_BLOCK_PAGES];

	failed = fln_blockmap_load_span(&image->map, FLN_IMAGE_PLANE_FAILED, page, nr_pages);
	if (fln_planted(FLN_BUG_POISON_OVERWRITTEN))
		return fln_mask_or(&m, &failed);
	if (mincore(image->alias + fln_pages_to_bytes(page), fln_pages_to_bytes(nr_pages), vec) !=
	    0)
		return m;
	for (uint32_t i = 0; i < nr_pages; i++) {
		if (vec[i] & 1)
			fln_mask_set(&m, i);
	}
	return m;
}

void fln_image_ready(const struct fln_image *image, uint64_t page, uint32_t nr_pages,
		     struct fln_mask *filled, struct fln_mask *zero)
{
	fln_rcu_assert_reading();
	*filled = fln_blockmap_load_span(&image->map, FLN_IMAGE_PLANE_FILLED, page, nr_pages);
	*zero = fln_blockmap_load_span(&image->map, FLN_IMAGE_PLANE_ZERO, page, nr_pages);
	/* A page that moves from FILLED to ZERO between the two loads is seen in one at least. */
	*filled = fln_mask_andnot(filled, zero);
	if (fln_planted(FLN_BUG_CONTINUE_UNFILLED) || fln_planted(FLN_BUG_POISON_OVERWRITTEN))
		*filled = plant_cached(image, page, nr_pages, filled);
	if (fln_image_is_huge(image))
		ready_whole(image, page, nr_pages, filled, zero);
}

uint64_t fln_image_due_page(const struct fln_image *image, uint64_t page)
{
	uint64_t block = page / FLN_BLOCK_PAGES;
	struct fln_mask done, zero, failed;
	uint32_t at;

	if (!fln_image_is_huge(image))
		return page;
	failed = fln_blockmap_load(&image->map, FLN_IMAGE_PLANE_FAILED, block);
	at = fln_mask_next_set(&failed, 0);
	if (at == FLN_BLOCK_PAGES) {
		done = fln_blockmap_load(&image->map, FLN_IMAGE_PLANE_FILLED, block);
		zero = fln_blockmap_load(&image->map, FLN_IMAGE_PLANE_ZERO, block);
		done = fln_mask_or(&done, &zero);
		at = fln_mask_next_clear(&done, 0);
	}
	return at < FLN_BLOCK_PAGES ? block * FLN_BLOCK_PAGES + at : page;
}

enum fln_image_page fln_image_due(const struct fln_image *image, uint64_t page)
{
	bool entered = fln_rcu_enter();

	fln_rcu_read_lock();
	page = fln_image_due_page(image, page);
	fln_rcu_read_unlock();
	fln_rcu_leave(entered);
	return fln_image_state(image, page);
}

void fln_image_known(const struct fln_image *image, uint64_t page, uint32_t nr_pages,
		     struct fln_mask *done, struct fln_mask *failed)
{
	struct fln_mask zero;

	if (fln_image_is_huge(image)) {
		/* A huge page fails as a whole. */
		*failed = fln_blockmap_load_span(&image->map, FLN_IMAGE_PLANE_FAILED,
						 fln_align_down(page, FLN_BLOCK_PAGES),
						 FLN_BLOCK_PAGES);
		if (!fln_mask_empty(failed))
			*failed = fln_mask_range(0, nr_pages);
	} else {
		*failed =
			fln_blockmap_load_span(&image->map, FLN_IMAGE_PLANE_FAILED, page, nr_pages);
	}
	fln_image_ready(image, page, nr_pages, done, &zero);
	*done = fln_mask_or(done, &zero);
}

enum fln_waits_for fln_image_waits(struct fln_image *image, uint64_t page, uint64_t *begun_ns)
{
	enum fln_waits_for waits = FLN_WAITS_FILL;
	const struct fln_fill *fill;

	*begun_ns = 0;
	if (image->link)
		return FLN_WAITS_OWNER;
	if (!image->source)
		return FLN_WAITS_PUT;
	page = fln_image_due_page(image, page);
	fln_lock(&image->lock);
	fill = fln_fill_find(image, page);
	if (fill) {
		*begun_ns = atomic_load_explicit(&fill->begun_ns, memory_order_relaxed);
		waits = *begun_ns ? FLN_WAITS_SOURCE : FLN_WAITS_FILLER;
	}
	fln_unlock(&image->lock);
	return waits;
}
