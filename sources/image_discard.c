/* SPDX-License-Identifier: MIT */
/*
 * Contents that are given up.
 *
 * A discard may come while a page is FILLING.  Before its fill writes it is taken
 * from it, and is ZERO at once, however long the source takes.  A write cannot be
 * called back, so then the page is marked as given up; its fill punches it out again
 * before it publishes it, as ZERO.  So does the fill of an attached image: its owner
 * writes.  Nothing else can have touched it: nobody installs a page that is
 * not published.  That also holds for a discard whose event has
 * been read and not been acted upon yet: publishing waits for it (filler.h).
 * When several guests share the image, a discard by one is a discard for all.
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
 * Pages of a block that are FILLING were given up.  What no fill writes yet is taken from its
 * fill, and returned; into *waiters those that wait for it.  What is being written is marked:
 * its fill makes it ZERO.
 */
static struct fln_mask take_given_up(struct fln_image *image, uint64_t block,
				     const struct fln_mask *filling, uint64_t *waiters)
	FLN_REQUIRES(image->lock)
{
	struct fln_mask taken = { { 0 } };

	for (uint32_t i = fln_mask_next_set(filling, 0); i < FLN_BLOCK_PAGES;
	     i = fln_mask_next_set(filling, i + 1)) {
		uint64_t page = block * FLN_BLOCK_PAGES + i;
		struct fln_fill *fill = fln_fill_find(image, page);

		FLN_ASSERT(fill);
		/* Of an attached image the owner writes, at a time that nobody here knows. */
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
 * The pages of [lo, hi) of a block that are UNFILLED or FAILED, and @taken, become @fill's.
 * False: none.
 */
static bool claim_given_up(struct fln_image *image, struct fln_chunk *c, struct fln_fill *fill,
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
	/* Nobody takes it over: what is pushed would be punched out again. */
	fill->writing = true;
	return true;
}

/*
 * Within one block: what is FILLED becomes ZERO with @filled_too, and what is not filled
 * becomes @fill's.  Returns whether that has any.
 */
static bool give_up_block(struct fln_image *image, struct fln_fill *fill, uint64_t block,
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
	}
	pages = fln_image_in_state(c, FLN_IMAGE_FILLING);
	pages = fln_mask_and(&pages, &range);
	pages = take_given_up(image, block, &pages, &waiters);
	if (!claim_given_up(image, c, fill, block, lo, hi, &pages))
		return false;
	fill->waiters = waiters;
	return true;
}

/*
 * The pages of a fill of give_up_block() become ZERO.  An adopted memfd may have had
 * something there: it goes first, for from then on they may be mapped, and written.
 */
static void publish_given_up(struct fln_image *image, struct fln_fill *fill)
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

		/* No handler of this thread waits for what is FILLING here. */
		fln_signals_hold();
		fln_rcu_read_lock();
		fln_lock(&image->lock);
		claimed = give_up_block(image, &fill, block, (uint32_t)(page - base),
					(uint32_t)(stop - base), filled_too);
		fln_image_note_change(image, page);
		waiters = claimed ? 0 : fln_image_take_waiters(image);
		fln_unlock(&image->lock);
		fln_rcu_read_unlock();
		if (claimed)
			publish_given_up(image, &fill);
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
			      "image %s: its memfd is sealed against writing, so nothing of "
			      "it can be given up",
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
	/* A huge page that has come back since is left alone by fln_image_allocate(). */
	uint32_t nr = fln_image_is_huge(image) ? nr_pages : fln_image_hole(image, page, nr_pages);

	if (nr == 0)
		return 1; /* it has come back since; the caller looks again */
	fln_image_drop(image, page, nr, true);
	return nr;
}
