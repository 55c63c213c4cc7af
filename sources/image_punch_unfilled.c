/* SPDX-License-Identifier: MIT */
/*
 * Punch out pages that are not filled: contents that an adopted memfd arrived with, and what large
 * folios take beyond the filled pages.
 *
 * To avoid racing a fill, pages are claimed as FILLING, punched, then put back in their
 * previous state.
 */
#include "sources/image_punch_unfilled.h"

#include "base/error.h"
#include "base/log.h"
#include "base/page.h"
#include "base/signals.h"
#include "sources/filler.h"
#include "sources/folio.h"
#include "sources/image_cache.h"
#include "sources/image_state.h"

#include <errno.h>
#include <string.h>

#define MAX_TRIMS 16u /* of an image, that wait for a filler */

/*
 * Claim the first run of [*page, end), within one block, whose pages are all UNFILLED or all
 * FAILED; *prev_state receives which.  Advances *page past what was examined.  False: nothing
 * to claim in this block.
 */
static bool claim_run(struct fln_image *image, struct fln_fill *fill, uint64_t *page, uint64_t end,
		      enum fln_image_page *prev_state) FLN_REQUIRES(image->lock)
{
	uint64_t block = *page / FLN_BLOCK_PAGES, base = block * FLN_BLOCK_PAGES;
	uint64_t stop = fln_block_end_page(*page, end);
	int uniform = fln_blockmap_uniform(&image->map, block);
	struct fln_mask range, unfilled, failed, claimable;
	struct fln_chunk *c;
	uint32_t lo;
	bool begun;

	range = fln_mask_range((uint32_t)(*page - base), (uint32_t)(stop - base));
	*page = stop;
	/* The whole block is ZERO or FILLED. */
	if (uniform == 1 << FLN_IMAGE_PLANE_ZERO || uniform == 1 << FLN_IMAGE_PLANE_FILLED)
		return false;
	c = fln_image_chunk(image, block);
	unfilled = fln_image_in_state(c, FLN_IMAGE_UNFILLED);
	failed = fln_image_in_state(c, FLN_IMAGE_FAILED);
	unfilled = fln_mask_and(&unfilled, &range);
	failed = fln_mask_and(&failed, &range);
	claimable = fln_mask_or(&unfilled, &failed);
	lo = fln_mask_next_set(&claimable, 0);
	if (lo == FLN_BLOCK_PAGES)
		return false;
	*prev_state = fln_mask_test(&failed, lo) ? FLN_IMAGE_FAILED : FLN_IMAGE_UNFILLED;
	*page = base +
		fln_mask_next_clear(*prev_state == FLN_IMAGE_FAILED ? &failed : &unfilled, lo);
	begun = fln_fill_begin(image, fill, base + lo, *page, *prev_state == FLN_IMAGE_FAILED);
	FLN_ASSERT(begun); /* the lock has been held since the states were read */
	/* Makes fln_image_put() wait rather than take over: we would punch out its data. */
	fill->writing = true;
	return true;
}

/*
 * @consequence: of a punch that fails, for the log.  Return: the pages of [page, end) that are not
 * filled, and have been punched out.
 */
static uint64_t punch_unfilled(struct fln_image *image, uint64_t page, uint64_t end,
			       const char *consequence)
{
	uint64_t nr_punched = 0;

	while (page < end) {
		enum fln_image_page prev_state = FLN_IMAGE_UNFILLED;
		struct fln_fill fill;
		bool claimed;

		/*
		 * An in-context SIGBUS handler on this thread would wait for our own FILLING pages:
		 * hold signals off to avoid that deadlock.
		 */
		fln_signals_hold();
		fln_rcu_read_lock();
		fln_lock(&image->lock);
		claimed = claim_run(image, &fill, &page, end, &prev_state);
		fln_unlock(&image->lock);
		fln_rcu_read_unlock();
		if (claimed) {
			if (fln_image_empty(image, fill.page, fill.nr_pages) == 0)
				nr_punched += fill.nr_pages;
			else
				fln_log_limited(&image->filler->opts.log, &image->log_limit,
						FLN_LOG_WARNING, "%s; %s", fln_last_error(),
						consequence);
			fln_fill_publish(image, &fill, 0, fill.nr_pages, prev_state);
			fln_fill_end(image, &fill);
		}
		fln_signals_release();
	}
	return nr_punched;
}

void fln_image_punch_unfilled(struct fln_image *image, uint64_t page, uint64_t nr_pages)
{
	/* Our own memfds hold only what we wrote; attached images belong to their owner. */
	if (image->adopted && !image->link)
		(void)punch_unfilled(
			image, page, page + nr_pages,
			"after the private region ends, discarded pages may expose the "
			"memfd's original contents");
}

uint32_t fln_image_trim(struct fln_image *image, uint64_t block)
{
	uint64_t page = block * FLN_BLOCK_PAGES, nr;
	int uniform = fln_blockmap_uniform(&image->map, block);

	/* Whole: there is nothing to give back, and it stays large. */
	if (uniform == 1 << FLN_IMAGE_PLANE_ZERO || uniform == 1 << FLN_IMAGE_PLANE_FILLED)
		return 0;
	/* Fills that begin from now on write to pages of their own. */
	if (!fln_folio_trim(&image->folios, block))
		return 0;
	nr = punch_unfilled(image, page,
			    fln_block_end_page(page, fln_bytes_to_pages(image->len_bytes)),
			    "its memory stays allocated");
	fln_folio_trimmed(&image->folios, page, (uint32_t)nr);
	return (uint32_t)nr;
}

/* Punch out at least as much as a block of what large folios have to spare.  False: nothing. */
static bool trim_some(struct fln_image *image)
{
	const struct fln_folios *f = &image->folios;
	uint32_t nr = 0;

	for (uint64_t block = 0; block < f->nr_blocks && nr < FLN_BLOCK_PAGES &&
				 atomic_load_explicit(&f->nr_spare, memory_order_relaxed) > 0;
	     block++)
		nr += fln_image_trim(image, block);
	return nr > 0;
}

int fln_image_write_or_trim(struct fln_image *image, uint64_t page, const void *buf,
			    uint32_t nr_pages)
{
	int rc = fln_image_write(image, page, buf, nr_pages);

	/* Others may take what was given back, but each round takes some. */
	while ((rc == -ENOSPC || rc == -ENOMEM) && trim_some(image))
		rc = fln_image_write(image, page, buf, nr_pages);
	return rc;
}

bool fln_image_ask_trim(struct fln_image *image, uint64_t page)
{
	struct fln_fill *fill;

	FLN_ASSERT(image->source);
	if (atomic_fetch_add_explicit(&image->nr_trims, 1, memory_order_relaxed) >= MAX_TRIMS) {
		fln_image_trim_ended(image);
		return false;
	}
	fill = fln_filler_alloc(image->filler, &image->queue, FLN_NO_WAITER, FLN_FILL_BACKGROUND);
	if (!fill) {
		fln_image_trim_ended(image);
		return false;
	}
	memset(fill, 0, sizeof(*fill));
	fill->image = image;
	fill->page = page;
	fill->trims = true;
	/* Not in the background: it takes turns with fills for faults, or it would never come. */
	fln_filler_submit(image->filler, &image->queue, fill);
	return true;
}

void fln_image_trim_ended(struct fln_image *image)
{
	(void)atomic_fetch_sub_explicit(&image->nr_trims, 1, memory_order_relaxed);
}

void fln_image_run_trim(struct fln_image *image, const struct fln_fill *fill)
{
	/* Others may have given back enough meanwhile. */
	if (fln_folio_must_trim(&image->folios))
		(void)fln_image_trim(image, fill->page / FLN_BLOCK_PAGES);
	fln_image_trim_ended(image);
}
