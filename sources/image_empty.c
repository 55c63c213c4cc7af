/* SPDX-License-Identifier: MIT */
/*
 * Taking away what an adopted memfd came with, where the image is not filled.
 *
 * A fill may begin at any time, and must not lose what it has written: the pages are claimed
 * as a fill claims them, and go back to the state that they were in.
 */
#include "sources/image_empty.h"

#include "base/log.h"
#include "base/page.h"
#include "base/signals.h"
#include "sources/image_cache.h"
#include "sources/image_state.h"

/*
 * Claim the first run of [*page, end) that is in one state and not filled, within a block;
 * *page becomes where to go on.  False: there is none in this block.
 */
static bool claim_run(struct fln_image *image, struct fln_fill *fill, uint64_t *page, uint64_t end,
		      enum fln_image_page *from) FLN_REQUIRES(image->lock)
{
	uint64_t block = *page / FLN_BLOCK_PAGES, base = block * FLN_BLOCK_PAGES;
	uint64_t stop = fln_block_end_page(*page, end);
	int uniform = fln_blockmap_uniform(&image->map, block);
	struct fln_mask range, unfilled, failed, open;
	struct fln_chunk *c;
	uint32_t lo;

	range = fln_mask_range((uint32_t)(*page - base), (uint32_t)(stop - base));
	*page = stop;
	if (uniform == 1 << FLN_IMAGE_PLANE_ZERO || uniform == 1 << FLN_IMAGE_PLANE_FILLED)
		return false;
	c = fln_image_chunk(image, block);
	unfilled = fln_image_in_state(c, FLN_IMAGE_UNFILLED);
	failed = fln_image_in_state(c, FLN_IMAGE_FAILED);
	unfilled = fln_mask_and(&unfilled, &range);
	failed = fln_mask_and(&failed, &range);
	open = fln_mask_or(&unfilled, &failed);
	lo = fln_mask_next_set(&open, 0);
	if (lo == FLN_BLOCK_PAGES)
		return false;
	*from = fln_mask_test(&failed, lo) ? FLN_IMAGE_FAILED : FLN_IMAGE_UNFILLED;
	*page = base + fln_mask_next_clear(*from == FLN_IMAGE_FAILED ? &failed : &unfilled, lo);
	if (!fln_fill_begin(image, fill, base + lo, *page, *from == FLN_IMAGE_FAILED))
		return false;
	/* Nobody takes it over: what is pushed would be punched out again. */
	fill->writing = true;
	return true;
}

void fln_image_empty_unfilled(struct fln_image *image, uint64_t page, uint64_t nr_pages)
{
	uint64_t end = page + nr_pages;

	/* A memfd of our own has nothing but what was written. */
	if (!image->adopted || image->link)
		return;
	while (page < end) {
		enum fln_image_page from = FLN_IMAGE_UNFILLED;
		struct fln_fill fill;
		bool claimed;

		/* No handler of this thread waits for what is FILLING here. */
		fln_signals_hold();
		fln_rcu_read_lock();
		fln_lock(&image->lock);
		claimed = claim_run(image, &fill, &page, end, &from);
		fln_unlock(&image->lock);
		fln_rcu_read_unlock();
		if (claimed) {
			if (fln_image_empty(image, fill.page, fill.nr_pages) != 0)
				fln_log_limited(&image->filler->opts.log, &image->log_limit,
						FLN_LOG_WARNING,
						"%s; a discard after the end of a private region "
						"shows what the memfd came with",
						fln_last_error());
			fln_fill_publish(image, &fill, 0, fill.nr_pages, from);
			fln_fill_end(image, &fill);
		}
		fln_signals_release();
	}
}
