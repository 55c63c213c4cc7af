/* SPDX-License-Identifier: MIT */
/*
 * Discards.
 *
 * A discard may come while a page is FILLING.  If the fill has not begun to write, the page
 * is taken from it and becomes ZERO at once, however slow the source is.  A write in progress
 * cannot be undone, so then the page is marked in fill->given_up; the fill punches it out again
 * and publishes it as ZERO.  In an attached image it is always marked, because the
 * owner process writes.  The page cannot be mapped meanwhile, because only published pages are
 * installed.  That also holds for a discard whose event has been read but not
 * handled yet: publishing waits for it (filler.h).
 * If several guests share the image, a discard by one is a discard for all.
 */
#include "sources/image_discard.h"

#include "base/cancel.h"
#include "base/error.h"
#include "base/fork.h"
#include "base/plant.h"
#include "base/signals.h"
#include "sources/image_cache.h"
#include "sources/image_poison.h"
#include "sources/image_state.h"

#include <errno.h>

/*
 * Discard pages of a block that are FILLING.  Pages that their fill does not write yet are
 * taken from it and returned, and its waiters are added to *waiters.  Pages being
 * written are marked, and their fill makes them ZERO.
 */
static struct fln_mask discard_filling(struct fln_image *image, uint64_t block,
				       const struct fln_mask *filling, uint64_t *waiters)
	FLN_REQUIRES(image->lock)
{
	struct fln_mask taken = { { 0 } };

	for (uint32_t i = fln_mask_next_set(filling, 0); i < FLN_BLOCK_PAGES;
	     i = fln_mask_next_set(filling, i + 1)) {
		uint64_t page = block * FLN_BLOCK_PAGES + i;
		struct fln_fill *fill = fln_fill_find(image, page);

		FLN_ASSERT(fill);
		/* In an attached image the owner process writes, at a time unknown to us. */
		if (fill->writing || image->link || fln_planted(FLN_BUG_DISCARD_WAITS)) {
			fln_mask_set(&fill->given_up, (uint32_t)(page - fill->page));
			continue;
		}
		fln_mask_set(&fill->gone, (uint32_t)(page - fill->page));
		fln_mask_set(&taken, i);
		*waiters |= fill->waiters;
	}
	return taken;
}

/*
 * Claim for @fill the pages of [lo, hi) of a block that are UNFILLED or FAILED, and @taken.
 * False: there are none.
 */
static bool claim_discarded(struct fln_image *image, struct fln_chunk *c, struct fln_fill *fill,
			    uint64_t block, uint32_t lo, uint32_t hi, const struct fln_mask *taken)
	FLN_REQUIRES(image->lock)
{
	struct fln_mask range = fln_mask_range(lo, hi);
	struct fln_mask unfilled = fln_image_in_state(c, FLN_IMAGE_UNFILLED);
	struct fln_mask failed = fln_image_in_state(c, FLN_IMAGE_FAILED), ours;

	unfilled = fln_mask_and(&unfilled, &range);
	failed = fln_mask_and(&failed, &range);
	ours = fln_mask_or(&unfilled, &failed);
	ours = fln_mask_or(&ours, taken);
	if (fln_mask_empty(&ours))
		return false;
	fln_image_move(image, c, &unfilled, FLN_IMAGE_UNFILLED, FLN_IMAGE_FILLING);
	fln_image_move(image, c, &failed, FLN_IMAGE_FAILED, FLN_IMAGE_FILLING);
	fln_fill_enter(image, fill, block * FLN_BLOCK_PAGES + lo, hi - lo);
	for (uint32_t i = lo; i < hi; i++) {
		if (!fln_mask_test(&ours, i))
			fln_mask_set(&fill->gone, i - lo);
	}
	/* Prevents fln_image_put() from taking over the pages: we would punch out its data. */
	fill->writing = true;
	return true;
}

/*
 * Discard pages [lo, hi) of one block: with @filled_too FILLED pages become ZERO, and @fill
 * claims those that are not filled.  Return: whether @fill has claimed any.
 */
static bool discard_block(struct fln_image *image, struct fln_fill *fill, uint64_t block,
			  uint32_t lo, uint32_t hi, bool filled_too) FLN_REQUIRES(image->lock)
{
	int uniform = fln_blockmap_uniform(&image->map, block);
	struct fln_mask range = fln_mask_range(lo, hi), pages;
	uint64_t waiters = 0;
	struct fln_chunk *c;

	if (uniform == 1 << FLN_IMAGE_PLANE_ZERO ||
	    (uniform == 1 << FLN_IMAGE_PLANE_FILLED && !filled_too))
		return false;
	c = fln_image_chunk(image, block);
	if (filled_too) {
		pages = fln_image_in_state(c, FLN_IMAGE_FILLED);
		pages = fln_mask_and(&pages, &range);
		fln_image_move(image, c, &pages, FLN_IMAGE_FILLED, FLN_IMAGE_ZERO);
		fln_folio_unfilled(&image->folios, block * FLN_BLOCK_PAGES, fln_mask_count(&pages));
	}
	pages = fln_image_in_state(c, FLN_IMAGE_FILLING);
	pages = fln_mask_and(&pages, &range);
	pages = discard_filling(image, block, &pages, &waiters);
	if (!claim_discarded(image, c, fill, block, lo, hi, &pages))
		return false;
	fill->waiters = waiters;
	return true;
}

/*
 * Make the pages of a fill of discard_block() ZERO.  An adopted memfd may have contents there:
 * these are punched out first, because ZERO pages may be mapped and written at once.
 */
static void publish_discarded(struct fln_image *image, struct fln_fill *fill)
{
	struct fln_mask owned;
	uint32_t at = 0, end;
	int rc = 0;

	fln_lock(&image->lock);
	owned = fln_fill_owned(fill, 0, fill->nr_pages);
	fln_unlock(&image->lock);
	for (; rc == 0 && fln_mask_next_run(&owned, &at, &end); at = end)
		rc = fln_image_empty(image, fill->page + at, end - at);
	fln_fill_publish(image, fill, 0, fill->nr_pages, rc ? FLN_IMAGE_FAILED : FLN_IMAGE_ZERO);
	fln_fill_end(image, fill);
}

void fln_image_drop(struct fln_image *image, uint64_t page, uint64_t nr_pages, bool filled_too)
{
	uint64_t first = page, end = page + nr_pages;

	while (page < end) {
		uint64_t block = page / FLN_BLOCK_PAGES, base = block * FLN_BLOCK_PAGES;
		uint64_t stop = fln_block_end_page(page, end);
		struct fln_fill fill;
		uint64_t waiters;
		bool claimed;

		/* A signal handler on this thread would wait forever for pages that we claimed. */
		fln_signals_hold();
		fln_rcu_read_lock();
		fln_lock(&image->lock);
		claimed = discard_block(image, &fill, block, (uint32_t)(page - base),
					(uint32_t)(stop - base), filled_too);
		fln_image_note_change(image, page);
		waiters = claimed ? 0 : fln_image_take_waiters(image);
		fln_unlock(&image->lock);
		fln_rcu_read_unlock();
		/* In a block that is large, what no fill has written reads zero, and is not punched. */
		if (claimed)
			publish_discarded(image, &fill);
		/* The page cache may have lost pages, and is asked about zeros from now on. */
		if (claimed || filled_too)
			fln_folio_gone(&image->folios, page, stop - page);
		fln_image_kick(image, waiters);
		fln_signals_release();
		page = stop;
	}
	(void)fln_image_lift(image, first, nr_pages);
}

bool fln_image_lift(struct fln_image *image, uint64_t page, uint64_t nr_pages)
{
	struct fln_filler *filler = image->filler;
	uint32_t nr = filler->opts.nr_waiters;

	if (!fln_image_may_have_poison(image, page, nr_pages))
		return false;
	atomic_fetch_add(&filler->nr_lifts, 1);
	fln_image_kick(image, nr > 0 && nr < FLN_MAX_WAITERS ? fln_waiter_bit(nr) - 1 : UINT64_MAX);
	return true;
}

void fln_image_give_up(struct fln_image *image, uint64_t page, uint64_t nr_pages)
{
	if (fln_planted(FLN_BUG_DISCARD_REFILLED))
		return;
	fln_image_drop(image, page, nr_pages, false);
}

int fln_image_discard(struct fln_image *image, uint64_t offset_bytes, uint64_t len_bytes)
{
	FLN_UNCANCELLABLE;
	const struct fln_filler_opts *o;
	bool entered;
	int rc = FLN_CALL_REFUSED(image);

	if (rc == 0)
		rc = fln_image_check_range(image, offset_bytes, len_bytes, image->page_bytes);
	if (rc)
		return rc;
	if (image->link)
		rc = fln_image_not_ours(image, "fln_image_discard");
	else if (image->read_only)
		rc = fln_fail(EPERM,
			      "image %s: its memfd is sealed against writing, so its pages "
			      "cannot be discarded",
			      image->name);
	if (rc)
		return rc;
	entered = fln_rcu_enter();
	fln_image_drop(image, fln_bytes_to_pages(offset_bytes), fln_bytes_to_pages(len_bytes),
		       true);
	fln_rcu_leave(entered);
	rc = fln_image_punch(image, fln_bytes_to_pages(offset_bytes),
			     fln_bytes_to_pages(len_bytes));
	o = &image->filler->opts;
	if (fln_image_lift(image, fln_bytes_to_pages(offset_bytes),
			   fln_bytes_to_pages(len_bytes)) &&
	    o->lift_wait)
		o->lift_wait(o->kick_ctx);
	return rc;
}

uint32_t fln_image_note_hole(struct fln_image *image, uint64_t page, uint32_t nr_pages)
{
	/* A huge page that was allocated again since is left alone by fln_huge_allocate(). */
	uint32_t nr = fln_image_is_huge(image) ? nr_pages : fln_image_hole(image, page, nr_pages);

	if (nr == 0)
		return 1; /* the page was allocated again since; the caller retries the install */
	fln_image_drop(image, page, nr, true);
	return nr;
}
