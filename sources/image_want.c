/* SPDX-License-Identifier: MIT */
/*
 * What a fault asks of an image: that a page be filled, and to be told when it is.
 */
#include "sources/image_want.h"

#include "base/signals.h"
#include "sources/image_ready.h"
#include "sources/image_state.h"
#include "sources/link.h"

/* Fills are the fillers', or of the link of an attached image. */
static struct fln_fill *fill_alloc(struct fln_image *image, uint32_t waiter,
				   const struct fln_image_want *want)
{
	enum fln_fill_use use = want->background ? FLN_FILL_BACKGROUND
				: want->peer     ? FLN_FILL_PEER
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

/* Is there a source, or an owner, to be asked for pages? */
static bool can_be_asked(const struct fln_image *image)
{
	return image->source || image->link;
}

/* A request, and what it comes to besides its answer. */
struct request {
	uint64_t page;
	uint32_t waiter;
	struct fln_image_want *want;
	struct fln_fill *spare; /* used when a fill is needed */
	bool promote;           /* a fault waits for a fill that was begun for none */
};

/* What a fault on a page that no fill covers comes to; registers the waiter. */
static enum fln_image_request wait_unfilled(struct fln_image *image, struct request *q)
	FLN_REQUIRES(image->lock)
{
	uint64_t window = fln_image_is_huge(image) ? FLN_BLOCK_PAGES
			  : q->want->fill_pages    ? q->want->fill_pages
						   : image->filler->opts.fill_pages;
	uint64_t lo = q->page, first = fln_align_down(lo, window), end = first + window;
	struct fln_fill *fill = q->spare;
	struct fln_mask open;
	bool begun;

	if (!can_be_asked(image) || !fill) {
		q->want->starved = can_be_asked(image);
		image->waiters |= fln_waiter_bit(q->waiter);
		q->want->nr_covered = UINT64_MAX;
		return FLN_IMAGE_IS_PENDING;
	}
	if (end > fln_bytes_to_pages(image->len_bytes))
		end = fln_bytes_to_pages(image->len_bytes);
	/* The pages of the window before the fault too, as far as they wait to be filled. */
	open = fln_image_in_state(fln_image_chunk(image, lo / FLN_BLOCK_PAGES), FLN_IMAGE_UNFILLED);
	while (lo > first && fln_mask_test(&open, (uint32_t)((lo - 1) % FLN_BLOCK_PAGES)))
		lo--;
	begun = fln_fill_begin(image, fill, lo, end, false);
	FLN_ASSERT(begun);
	fill->waiters = fln_waiter_bit(q->waiter);
	atomic_store_explicit(&fill->background, q->want->background, memory_order_relaxed);
	q->want->nr_covered = fill->page + fill->nr_pages - q->page;
	q->spare = NULL;
	return FLN_IMAGE_IS_PENDING;
}

/* A fault asks once more for a page that has failed. */
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

/* What a request comes to, with the lock held. */
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
		return q->want->retry && can_be_asked(image) ? refill(image, q)
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
		return wait_unfilled(image, q);
	}
}

/* Does the page need a fill before it can be mapped? */
static bool needs_fill(const struct fln_image *image, uint64_t page, bool retry)
{
	enum fln_image_page state;

	if (!can_be_asked(image))
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
	/* A handler of this thread must not wait for a fill that nobody else can submit. */
	fln_signals_hold();
	do {
		/* Not under the image's lock: the fillers' comes before it. */
		taken = may_fill ? fill_alloc(image, waiter, want) : NULL;
		q.spare = taken;
		fln_rcu_read_lock();
		fln_lock(&image->lock);
		/* Its fill was put off since the first look: then one is needed after all. */
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
		fln_filler_promote(image->filler, &image->queue, page);
	fln_signals_release();
	return result;
}

enum fln_image_request fln_image_request(struct fln_image *image, uint64_t page, uint32_t waiter)
{
	struct fln_image_want want = { .background = false };

	return fln_image_want(image, page, waiter, &want);
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
		/* A block whose pages are all alike is never FAILED: it had a chunk then. */
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
