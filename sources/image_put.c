/* SPDX-License-Identifier: MIT */
/*
 * Synchronous fills, on the calling thread: contents pushed by the embedder (fln_image_put()) or
 * read from the source (fln_image_fill()).
 */
#include "base/cancel.h"
#include "sources/fill.h"
#include "sources/image_punch_unfilled.h"
#include "sources/image_state.h"

#include "base/error.h"
#include "base/fork.h"
#include "sources/link_fill.h"

#include <errno.h>

enum claim {
	CLAIM_NONE,
	CLAIM_BEGUN,
	CLAIM_BUSY
};

/* Take over, for @fill, pages that are FILLING from @page on from the fill that owns them. */
static enum claim take_over(struct fln_image *image, struct fln_fill *fill, uint64_t page,
			    uint64_t end) FLN_REQUIRES(image->lock)
{
	struct fln_fill *from = fln_fill_find(image, page);
	uint32_t at, nr = 0;

	FLN_ASSERT(from);
	if (from->writing)
		return CLAIM_BUSY;
	for (at = (uint32_t)(page - from->page); page + nr < end && at + nr < from->nr_pages;
	     nr++) {
		/* Discarded pages stay with the fill, which makes them ZERO. */
		if (fln_mask_test(&from->gone, at + nr) || fln_mask_test(&from->given_up, at + nr))
			break;
		fln_mask_set(&from->gone, at + nr);
	}
	if (nr == 0)
		return CLAIM_NONE;
	fln_fill_enter(image, fill, page, nr);
	fill->waiters = from->waiters;
	return CLAIM_BEGUN;
}

/*
 * Claim for @fill the first run of [*page, end), within one block, that is not filled;
 * *page becomes its beginning.  With @may_take_over also pages that are FILLING.
 * CLAIM_NONE: nothing was claimed, and *page is where to continue.
 */
static enum claim claim_run(struct fln_image *image, struct fln_fill *fill, uint64_t *page,
			    uint64_t end, bool may_take_over) FLN_REQUIRES(image->lock)
{
	uint64_t block = *page / FLN_BLOCK_PAGES, base = block * FLN_BLOCK_PAGES;
	struct fln_mask skipped, zero, filling;
	enum claim claim = CLAIM_BEGUN;
	struct fln_chunk *c;

	if (fln_blockmap_uniform(&image->map, block) > 0) {
		*page = end;
		return CLAIM_NONE;
	}
	c = fln_image_chunk(image, block);
	filling = fln_image_in_state(c, FLN_IMAGE_FILLING);
	skipped = fln_image_in_state(c, FLN_IMAGE_FILLED);
	zero = fln_image_in_state(c, FLN_IMAGE_ZERO);
	skipped = fln_mask_or(&skipped, &zero);
	if (!may_take_over)
		skipped = fln_mask_or(&skipped, &filling);
	*page = base + fln_mask_next_clear(&skipped, (uint32_t)(*page - base));
	if (*page >= end) {
		*page = end;
		return CLAIM_NONE;
	}
	if (fln_mask_test(&filling, (uint32_t)(*page - base)))
		claim = take_over(image, fill, *page, end);
	else
		claim = fln_fill_begin(image, fill, *page, end, true) ? CLAIM_BEGUN : CLAIM_NONE;
	/* A caller that may take over has the contents, and writes them without delay. */
	if (claim == CLAIM_BEGUN)
		fill->writing = may_take_over;
	else if (claim == CLAIM_NONE)
		++*page;
	return claim;
}

/* Fills one claimed run of pages. */
typedef int (*fill_run_fn)(struct fln_image *image, struct fln_fill *fill, void *arg);

/* Claim every unfilled run of [page, end) and fill it with @fn.  Return: the first error. */
static int fill_each_run(struct fln_image *image, uint64_t page, uint64_t end, bool may_take_over,
			 fill_run_fn fn, void *arg)
{
	int first = 0;

	while (page < end) {
		struct fln_fill fill;
		enum claim claim;
		int rc;

		/*
		 * A signal handler on this thread would wait forever for pages that we claimed:
		 * hold signals off.
		 */
		fln_signals_hold();
		fln_rcu_read_lock();
		fln_lock(&image->lock);
		claim = claim_run(image, &fill, &page, fln_block_end_page(page, end),
				  may_take_over);
		fln_rcu_read_unlock();
		if (claim == CLAIM_BUSY)
			fln_cond_wait(&image->written, &image->lock);
		fln_unlock(&image->lock);
		if (claim == CLAIM_BEGUN) {
			rc = fn(image, &fill, arg);
			fln_fill_end(image, &fill);
			first = first ? first : rc;
			page += fill.nr_pages;
		}
		fln_signals_release();
	}
	return first;
}

struct put {
	const char *buf;
	uint64_t page; /* the image's page to which buf begins */
};

static int put_run(struct fln_image *image, struct fln_fill *fill, void *arg)
{
	const struct put *put = arg;
	int rc = fln_image_write_or_trim(image, fill->page,
					 put->buf + fln_pages_to_bytes(fill->page - put->page),
					 fill->nr_pages);

	fln_fill_publish(image, fill, 0, fill->nr_pages,
			 rc ? FLN_IMAGE_UNFILLED : FLN_IMAGE_FILLED);
	return rc;
}

int fln_image_put(struct fln_image *image, uint64_t offset_bytes, const void *buf,
		  uint64_t len_bytes)
{
	FLN_UNCANCELLABLE;
	struct put put = { .buf = buf, .page = fln_bytes_to_pages(offset_bytes) };
	bool entered;
	int rc = FLN_CALL_REFUSED(image);

	if (rc)
		return rc;
	rc = fln_image_check_range(image, offset_bytes, len_bytes, FLN_PAGE_BYTES);
	if (rc == 0 && image->link)
		rc = fln_image_not_ours(image, "fln_image_put");
	if (rc)
		return rc;
	if (!buf)
		return fln_fail(EINVAL, "image %s: buf is NULL", image->name);
	entered = fln_rcu_enter();
	rc = fill_each_run(image, put.page, put.page + fln_bytes_to_pages(len_bytes), true, put_run,
			   &put);
	fln_rcu_leave(entered);
	return rc;
}

int fln_image_fill(struct fln_image *image, uint64_t offset_bytes, uint64_t len_bytes)
{
	FLN_UNCANCELLABLE;
	const struct fln_allocator *a;
	uint64_t page = fln_bytes_to_pages(offset_bytes);
	bool entered;
	void *buffer;
	int rc = FLN_CALL_REFUSED(image);

	if (rc)
		return rc;
	rc = fln_image_check_range(image, offset_bytes, len_bytes, FLN_PAGE_BYTES);
	if (rc)
		return rc;
	if (image->link) {
		entered = fln_rcu_enter();
		rc = fln_link_fill(image, page, fln_bytes_to_pages(len_bytes));
		fln_rcu_leave(entered);
		return rc;
	}
	if (!image->source)
		return fln_fail(ENODATA, "image %s has no source to fill it from", image->name);
	a = &image->filler->opts.alloc;
	/* Not touched here: holes, and what is read in place, do not need it. */
	buffer = a->alloc(a->ctx, FLN_BLOCK_BYTES, FLN_PAGE_BYTES, FLN_NODE_ANY);
	if (!buffer)
		return fln_fail(ENOMEM, "image %s: no memory for a fill buffer", image->name);
	entered = fln_rcu_enter();
	rc = fill_each_run(image, page, page + fln_bytes_to_pages(len_bytes), false, fln_fill_run,
			   buffer);
	fln_rcu_leave(entered);
	a->free(a->ctx, buffer, FLN_BLOCK_BYTES, FLN_NODE_ANY);
	return rc;
}
