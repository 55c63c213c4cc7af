/* SPDX-License-Identifier: MIT */
/*
 * fln_image_fill() of an image that another process owns.
 *
 * The caller asks for run after run, as there are fills of the link's to ask with, and then
 * waits until all that it has asked for have ended.
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
 * The next run of [*page, end) that waits to be filled or failed, in the block of *page;
 * asked for by @fill.  False: there is none in that block, and *page is behind it.
 */
static bool ask_next(struct fln_image *image, struct fln_fill *fill, uint64_t *page, uint64_t end,
		     struct fln_fill_join *join)
{
	uint64_t base = fln_align_down(*page, FLN_BLOCK_PAGES),
		 stop = fln_block_end_page(*page, end);
	struct fln_mask open = { { 0 } }, failed;
	bool begun = false;

	/* One block at a time: a worker that serves a fault does not wait for more (I7). */
	fln_rcu_read_lock();
	fln_lock(&image->lock);
	if (fln_blockmap_uniform(&image->map, base / FLN_BLOCK_PAGES) <= 0) {
		struct fln_chunk *c = fln_image_chunk(image, base / FLN_BLOCK_PAGES);

		open = fln_image_in_state(c, FLN_IMAGE_UNFILLED);
		failed = fln_image_in_state(c, FLN_IMAGE_FAILED);
		open = fln_mask_or(&open, &failed);
	}
	*page = base + fln_mask_next_set(&open, (uint32_t)(*page - base));
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

		/* No handler may wait for a fill that only this thread can ask for. */
		fln_signals_hold();
		fill = fln_link_alloc(image->link, FLN_NO_WAITER, true);
		if (!fill)
			fln_sleep_ns(SHORT_PAUSE_NS);
		else if (ask_next(image, fill, &at, end, &join))
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
				"image %s: page %llu is unavailable: so says the process that "
				"shares it",
				image->name, (unsigned long long)at);
	}
	return 0;
}
