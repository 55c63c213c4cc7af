/* SPDX-License-Identifier: MIT */
/*
 * An image: its life, and what faults ask of it.  How its pages' states move is
 * told in image_state.c.
 */
#include "base/cancel.h"
#include "sources/image_put.h"
#include "sources/image_state.h"
#include "sources/memfd.h"

#include "base/error.h"
#include "base/fork.h"
#include "base/signals.h"
#include "sources/link.h"

#include <errno.h>
#include <unistd.h>

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

/* Is there somebody who fills pages when he is asked to? */
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

/* What a fault on a page that no fill covers comes to; registers who waits. */
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
			       fln_image_is_huge(image)
				       ? fln_align_down(q->page, FLN_BLOCK_PAGES) + FLN_BLOCK_PAGES
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

/* Does the page need a fill before it can be had? */
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
			 stop = base + FLN_BLOCK_PAGES;
		struct fln_mask failed, range;
		struct fln_chunk *c;

		stop = stop < end ? stop : end;
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

int fln_image_discard(struct fln_image *image, uint64_t offset_bytes, uint64_t len_bytes)
{
	FLN_UNCANCELLABLE;
	const struct fln_filler_opts *o;
	bool entered;
	int rc;

	if (fln_forked)
		return fln_fork_refused("fln_image_discard");
	rc = fln_image_check_range(image, offset_bytes, len_bytes,
				   image ? image->page_bytes : FLN_PAGE_BYTES);
	if (rc == 0 && image && image->link)
		rc = fln_image_not_ours(image, "fln_image_discard");
	if (rc == 0 && image->read_only)
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

uint32_t fln_image_hole(const struct fln_image *image, uint64_t page, uint32_t nr_pages)
{
	uint64_t end = page + nr_pages;
	off_t next;

	/* On hugetlbfs nothing tells a hole but the install that has found it. */
	FLN_ASSERT(!fln_image_is_huge(image));
	next = lseek(image->memfd, (off_t)fln_pages_to_bytes(page), SEEK_DATA);
	/* ENXIO: nothing but holes from here on. */
	if (next >= 0 && fln_bytes_to_pages((uint64_t)next) < end)
		end = fln_bytes_to_pages((uint64_t)next);
	return (uint32_t)(end - page);
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

int fln_image_memfd(const struct fln_image *image)
{
	return image->memfd;
}

uint64_t fln_image_filled_bytes(const struct fln_image *image)
{
	return fln_pages_to_bytes(atomic_load_explicit(&image->nr_done, memory_order_relaxed));
}

/* The one making of the states; the memfd is opened in memfd.c. */
int fln_image_init(struct fln_image *image, const struct fln_image_init_opts *init)
{
	const struct fln_image_opts *opts = &init->opts;
	bool filled = opts->flags & FLN_IMAGE_F_FILLED;
	uint64_t nr_pages = fln_bytes_to_pages(opts->len_bytes);
	uint64_t nr_blocks = (nr_pages + FLN_BLOCK_PAGES - 1) / FLN_BLOCK_PAGES;
	int rc;

	memset(image, 0, sizeof(*image));
	image->filler = init->filler;
	image->source = opts->source;
	image->can_be_late = opts->source != NULL;
	image->adopted = opts->flags & FLN_IMAGE_F_ADOPT;
	image->unsealed = opts->flags & FLN_IMAGE_F_UNSEALED;
	image->len_bytes = opts->len_bytes;
	image->page_bytes = opts->page_bytes;
	(void)snprintf(image->name, sizeof(image->name), "%s",
		       opts->name ? opts->name : "faultlane");
	if (nr_blocks > (UINT32_MAX >> 1))
		return fln_fail(EINVAL, "image %s: %llu bytes are more than an image can hold",
				image->name, (unsigned long long)opts->len_bytes);
	rc = fln_image_open_memfd(image, opts);
	if (rc)
		return rc;
	rc = fln_blockmap_init(&image->map, 0, nr_pages, (uint32_t)nr_blocks * 2,
			       filled ? 1u << FLN_IMAGE_PLANE_FILLED : 0);
	if (rc)
		goto err_memfd;
	rc = fln_filler_add_queue(image->filler, &image->queue, image->source);
	if (rc)
		goto err_map;
	atomic_store_explicit(&image->nr_done, filled ? nr_pages : 0, memory_order_relaxed);
	atomic_store_explicit(&image->poison_lo, UINT64_MAX, memory_order_relaxed);
	fln_lock_init(&image->lock, FLN_RANK_IMAGE);
	fln_cond_init(&image->written);
	if (image->source)
		fln_source_get(image->source);
	return 0;

err_map:
	fln_blockmap_deinit(&image->map);
err_memfd:
	fln_image_close_memfd(image);
	return rc;
}

/* Pages of a fill that no thread has begun go back to UNFILLED. */
static void cancel_fill(struct fln_image *image, struct fln_fill *fill)
{
	fln_fill_publish(image, fill, 0, fill->nr_pages, FLN_IMAGE_UNFILLED);
	fln_fill_end(image, fill);
	fln_filler_free(image->filler, &image->queue, fill);
}

int fln_image_deinit(struct fln_image *image, uint64_t deadline_ns)
{
	struct fln_fill *fill = fln_filler_withdraw(image->filler, &image->queue);
	bool entered = fln_rcu_enter();

	fln_link_close(image);
	atomic_store_explicit(&image->ending, true, memory_order_relaxed);
	while (fill) {
		struct fln_fill *next = fill->next;

		cancel_fill(image, fill);
		fill = next;
	}
	fln_rcu_leave(entered);
	if (!fln_filler_drain(image->filler, &image->queue, deadline_ns)) {
		atomic_store_explicit(&image->ending, false, memory_order_relaxed);
		return fln_fail(ETIMEDOUT,
				"image %s: a read of source %s has not come back; mend "
				"the source, then call again",
				image->name, image->source->ops.name);
	}
	fln_filler_remove_queue(image->filler, &image->queue);
	fln_blockmap_deinit(&image->map);
	fln_image_close_memfd(image);
	(void)pthread_cond_destroy(&image->written);
	fln_lock_deinit(&image->lock);
	fln_source_put(image->source);
	return 0;
}
