/* SPDX-License-Identifier: MIT */
/*
 * fln_image_fill() for an attached image, which another process owns.
 *
 * The caller sends an ask for each run, as fills of the link become free, and then waits until
 * all of them have ended.
 */
#include "sources/link_fill.h"

#include "base/blockmap.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/lock.h"
#include "base/page.h"
#include "base/rcu.h"
#include "base/signals.h"
#include "sources/filler.h"
#include "sources/image.h"
#include "sources/image_state.h"
#include "sources/link.h"

#include <errno.h>
#include <stdbool.h>

#define SHORT_PAUSE_NS FLN_NS_PER_MS

/*
 * Claim for @fill the next UNFILLED or FAILED run of [*page, end) in the block of *page; *page
 * becomes its end.  False: the block has none, and *page becomes the end of the block.
 */
static bool claim_next(struct fln_image *image, struct fln_fill *fill, uint64_t *page, uint64_t end,
		       struct fln_fill_join *join)
{
	uint64_t base = fln_align_down(*page, FLN_BLOCK_PAGES),
		 stop = fln_block_end_page(*page, end);
	struct fln_mask claimable = { { 0 } }, failed;
	bool begun = false;

	/* One block per critical section, which bounds the delay of workers (I7). */
	fln_rcu_read_lock();
	fln_lock(&image->lock);
	if (fln_blockmap_uniform(&image->map, base / FLN_BLOCK_PAGES) <= 0) {
		struct fln_chunk *c = fln_image_chunk(image, base / FLN_BLOCK_PAGES);

		claimable = fln_image_in_state(c, FLN_IMAGE_UNFILLED);
		failed = fln_image_in_state(c, FLN_IMAGE_FAILED);
		claimable = fln_mask_or(&claimable, &failed);
	}
	*page = base + fln_mask_next_set(&claimable, (uint32_t)(*page - base));
	if (*page < stop) {
		begun = fln_fill_begin(image, fill, *page, stop, true);
		FLN_ASSERT(begun);
		*page += fill->nr_pages;
		fill->join = join;
		join->nr_fills++;
	} else {
		*page = stop;
	}
	fln_unlock(&image->lock);
	fln_rcu_read_unlock();
	return begun;
}

int fln_link_fill(struct fln_image *image, uint64_t page, uint64_t nr_pages)
{
	struct fln_fill_join join = { .nr_fills = 0 };
	uint64_t at = page, end = page + nr_pages;

	while (at < end) {
		struct fln_fill *fill;

		/* A signal handler on this thread would wait forever for a fill not yet sent. */
		fln_signals_hold();
		fill = fln_link_alloc(image->link, FLN_NO_WAITER, true);
		if (!fill)
			fln_sleep_ns(SHORT_PAUSE_NS);
		else if (claim_next(image, fill, &at, end, &join))
			fln_link_ask(image->link, fill);
		else
			fln_link_free(image->link, fill);
		fln_signals_release();
	}
	fln_lock(&image->lock);
	while (join.nr_fills > 0)
		fln_cond_wait(&image->written, &image->lock);
	fln_unlock(&image->lock);
	for (at = page; at < end; at++) {
		if (fln_is_aligned(at, FLN_BLOCK_PAGES) &&
		    fln_blockmap_uniform(&image->map, at / FLN_BLOCK_PAGES) > 0)
			at += FLN_BLOCK_PAGES - 1;
		else if (fln_image_state(image, at) == FLN_IMAGE_FAILED)
			return fln_fail(
				EIO,
				"image %s: page %llu has failed in the process that shares the "
				"image",
				image->name, (unsigned long long)at);
	}
	return 0;
}
