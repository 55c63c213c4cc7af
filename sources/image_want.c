/* SPDX-License-Identifier: MIT */
/*
 * Requests for pages of an image: start a fill if needed, and register the waiter.
 *
 * Called by workers, by threads that serve attached processes (share.c), and in a guest's turn.
 * image->lock guards the page states, the fills in flight and the waiters; it is taken here.
 */
#include "sources/image_want.h"

#include "base/signals.h"
#include "sources/image_ready.h"
#include "sources/image_state.h"
#include "sources/link.h"

#define MAX_REST_FILLS 8u /* of a block, at a time */

/* Allocate a fill from the fillers' pool or, for an attached image, from its link. */
static struct fln_fill *fill_alloc(struct fln_image *image, uint32_t waiter,
				   const struct fln_image_want *want)
{
	enum fln_fill_use use = want->background || want->rest ? FLN_FILL_BACKGROUND
				: want->peer                   ? FLN_FILL_PEER
							       : FLN_FILL_FAULT;

	return image->link ? fln_link_alloc(image->link, waiter, want->background)
			   : fln_filler_alloc(image->filler, &image->queue, waiter, use);
}

static void fill_free(struct fln_image *image, struct fln_fill *fill)
{
	if (image->link)
		fln_link_free(image->link, fill);
	else
		fln_filler_free(image->filler, &image->queue, fill);
}

static void fill_submit(struct fln_image *image, struct fln_fill *fill)
{
	if (image->link)
		fln_link_ask(image->link, fill);
	else
		fln_filler_submit(image->filler, &image->queue, fill);
}

/* Can pages be filled on request, by a source or by the owner of an attached image? */
static bool is_fillable(const struct fln_image *image)
{
	return image->source || image->link;
}

/* The state of a request besides its result. */
struct request {
	uint64_t page;
	uint32_t waiter;
	struct fln_image_want *want;
	struct fln_fill *spare; /* an allocated fill; NULL once used */
	bool promote;           /* a fault waits for a background fill */
};

/* Answer a request for a page that no fill covers: begin a fill, or register the waiter. */
static enum fln_image_request request_unfilled(struct fln_image *image, struct request *q)
	FLN_REQUIRES(image->lock)
{
	uint64_t window = fln_image_is_huge(image) ? FLN_BLOCK_PAGES
			  : q->want->fill_pages    ? q->want->fill_pages
						   : image->filler->opts.fill_pages;
	uint64_t lo = q->page, first = fln_align_down(lo, window), end = first + window;
	struct fln_fill *fill = q->spare;
	struct fln_mask unfilled;
	bool begun;

	if (!is_fillable(image) || !fill) {
		q->want->starved = is_fillable(image);
		image->waiters |= fln_waiter_bit(q->waiter);
		q->want->nr_covered = UINT64_MAX; /* image->waiters are kicked by any change */
		return FLN_IMAGE_IS_PENDING;
	}
	if (end > fln_bytes_to_pages(image->len_bytes))
		end = fln_bytes_to_pages(image->len_bytes);
	/* Include the unfilled pages of the window that lie directly before the requested page. */
	unfilled = fln_image_in_state(fln_image_chunk(image, lo / FLN_BLOCK_PAGES),
				      FLN_IMAGE_UNFILLED);
	while (lo > first && fln_mask_test(&unfilled, (uint32_t)((lo - 1) % FLN_BLOCK_PAGES)))
		lo--;
	begun = fln_fill_begin(image, fill, lo, end, false);
	FLN_ASSERT(begun);
	fill->waiters = fln_waiter_bit(q->waiter);
	fill->urgent = (uint32_t)(q->page - fill->page);
	fill->has_urgent = !q->want->background && !q->want->rest;
	atomic_store_explicit(&fill->background, q->want->background, memory_order_relaxed);
	q->want->nr_covered = fill->page + fill->nr_pages - q->page;
	q->spare = NULL;
	return FLN_IMAGE_IS_PENDING;
}

/* Answer a request that retries a FAILED page. */
static enum fln_image_request refill(struct fln_image *image, struct request *q)
	FLN_REQUIRES(image->lock)
{
	bool begun;

	q->want->starved = !q->spare;
	if (!q->spare)
		return FLN_IMAGE_IS_STARVED;
	begun = fln_fill_begin(image, q->spare, q->page,
			       fln_image_is_huge(image) ? fln_block_end_page(q->page, UINT64_MAX)
							: q->page + 1,
			       true);
	FLN_ASSERT(begun);
	q->spare->waiters = fln_waiter_bit(q->waiter);
	atomic_store_explicit(&q->spare->background, q->want->background, memory_order_relaxed);
	q->want->nr_covered = q->spare->nr_pages;
	q->spare = NULL;
	return FLN_IMAGE_IS_PENDING;
}

/* Answer a request, by the state of its page. */
static enum fln_image_request answer(struct fln_image *image, struct request *q)
	FLN_REQUIRES(image->lock)
{
	struct fln_fill *covering;

	q->page = fln_image_due_page(image, q->page);
	switch (fln_image_state(image, q->page)) {
	case FLN_IMAGE_FILLED:
	case FLN_IMAGE_ZERO:
		return FLN_IMAGE_IS_READY;
	case FLN_IMAGE_FAILED:
		return q->want->retry && is_fillable(image) ? refill(image, q)
							    : FLN_IMAGE_IS_FAILED;
	case FLN_IMAGE_FILLING:
		covering = fln_fill_find(image, q->page);
		FLN_ASSERT(covering);
		covering->waiters |= fln_waiter_bit(q->waiter);
		q->want->nr_covered = covering->page + covering->nr_pages - q->page;
		q->promote = !q->want->background &&
			     atomic_load_explicit(&covering->background, memory_order_relaxed);
		return FLN_IMAGE_IS_PENDING;
	case FLN_IMAGE_UNFILLED:
	default:
		return request_unfilled(image, q);
	}
}

/* Would a request for the page begin a fill? */
static bool needs_fill(const struct fln_image *image, uint64_t page, bool retry)
{
	enum fln_image_page state;

	if (!is_fillable(image))
		return false;
	state = fln_image_due(image, page);
	return state == FLN_IMAGE_UNFILLED || (retry && state == FLN_IMAGE_FAILED);
}

enum fln_image_request fln_image_want(struct fln_image *image, uint64_t page, uint32_t waiter,
				      struct fln_image_want *want)
{
	bool may_fill = needs_fill(image, page, want->retry), again;
	enum fln_image_request result = FLN_IMAGE_IS_PENDING;
	struct request q = { .page = page, .waiter = waiter, .want = want };
	struct fln_fill *taken;

	FLN_ASSERT(waiter <= FLN_NO_WAITER);
	want->starved = false;
	/*
	 * Hold signals off until the fill is submitted: a handler on this thread that needs the
	 * same page would wait for that fill forever.
	 */
	fln_signals_hold();
	do {
		/* Outside image->lock: filler->lock has the lower rank. */
		taken = may_fill ? fill_alloc(image, waiter, want) : NULL;
		q.spare = taken;
		fln_rcu_read_lock();
		fln_lock(&image->lock);
		/* A fill has become necessary since needs_fill(): allocate one after all. */
		again = !may_fill && needs_fill(image, page, want->retry);
		if (!again)
			result = answer(image, &q);
		want->nr_let_go = atomic_load_explicit(&image->nr_let_go, memory_order_relaxed);
		fln_unlock(&image->lock);
		fln_rcu_read_unlock();
		may_fill = true;
	} while (again);
	if (taken && q.spare)
		fill_free(image, taken);
	else if (taken)
		fill_submit(image, taken);
	else if (q.promote && !image->link)
		fln_filler_promote(image->filler, &image->queue, q.page);
	fln_signals_release();
	return result;
}

enum fln_image_request fln_image_request(struct fln_image *image, uint64_t page, uint32_t waiter)
{
	struct fln_image_want want = { .background = false };

	return fln_image_want(image, page, waiter, &want);
}

/* Pages of the block at @page that are UNFILLED, at a glance. */
static struct fln_mask unfilled_of(const struct fln_image *image, uint64_t block)
{
	struct fln_mask left = fln_blockmap_valid(&image->map, block), m;

	fln_rcu_read_lock();
	for (uint32_t plane = 0; plane < FLN_MAP_PLANES; plane++) {
		m = fln_blockmap_load(&image->map, plane, block);
		left = fln_mask_andnot(&left, &m);
	}
	fln_rcu_read_unlock();
	return left;
}

void fln_image_fill_rest(struct fln_image *image, uint64_t page)
{
	struct fln_image_want want = { .fill_pages = FLN_BLOCK_PAGES, .rest = true };
	uint64_t block = page / FLN_BLOCK_PAGES;
	struct fln_mask left;
	uint32_t lo = 0, hi, nr = 0;

	if (!is_fillable(image))
		return;
	left = unfilled_of(image, block);
	for (; nr < MAX_REST_FILLS && fln_mask_next_run(&left, &lo, &hi); lo = hi, nr++) {
		(void)fln_image_want(image, block * FLN_BLOCK_PAGES + lo, FLN_NO_WAITER, &want);
		if (want.starved)
			break;
	}
}

void fln_image_forget_failed(struct fln_image *image, uint64_t page, uint64_t nr_pages)
{
	uint64_t end = page + nr_pages;

	if (image->link)
		fln_link_ask_anew(image->link);
	while (page < end) {
		uint64_t base = fln_align_down(page, FLN_BLOCK_PAGES),
			 stop = fln_block_end_page(page, end);
		struct fln_mask failed, range;
		struct fln_chunk *c;

		range = fln_mask_range((uint32_t)(page - base), (uint32_t)(stop - base));
		fln_rcu_read_lock();
		fln_lock(&image->lock);
		/* Without a chunk no page of the block is FAILED. */
		c = fln_blockmap_peek(&image->map, base / FLN_BLOCK_PAGES);
		if (c) {
			failed = fln_image_in_state(c, FLN_IMAGE_FAILED);
			failed = fln_mask_and(&failed, &range);
			fln_image_move(image, c, &failed, FLN_IMAGE_FAILED, FLN_IMAGE_UNFILLED);
		}
		fln_unlock(&image->lock);
		fln_rcu_read_unlock();
		page = stop;
	}
}
