/* SPDX-License-Identifier: MIT */
/*
 * Contents that are brought: pushed by the embedder, or read on the calling thread.
 */
#include "base/cancel.h"
#include "sources/fill.h"
#include "sources/image_cache.h"
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

/* Take the run from @page on, which is FILLING, over from its fill, for @fill. */
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
		/* What was given up stays with the fill that was told of it. */
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
 * Claim the first run of [*page, end), within one block, that waits to be filled,
 * and let *page be where it begins; CLAIM_NONE: there is none from *page on, or
 * none at *page.  With @may_take_over also what is FILLING.
 */
static enum claim claim_run(struct fln_image *image, struct fln_fill *fill, uint64_t *page,
			    uint64_t end, bool may_take_over) FLN_REQUIRES(image->lock)
{
	uint64_t block = *page / FLN_BLOCK_PAGES, base = block * FLN_BLOCK_PAGES;
	struct fln_mask passed, zero, filling;
	enum claim claim = CLAIM_BEGUN;
	struct fln_chunk *c;

	if (fln_blockmap_uniform(&image->map, block) > 0) {
		*page = end;
		return CLAIM_NONE;
	}
	c = fln_image_chunk(image, block);
	filling = fln_image_in_state(c, FLN_IMAGE_FILLING);
	passed = fln_image_in_state(c, FLN_IMAGE_FILLED);
	zero = fln_image_in_state(c, FLN_IMAGE_ZERO);
	passed = fln_mask_or(&passed, &zero);
	if (!may_take_over)
		passed = fln_mask_or(&passed, &filling);
	*page = base + fln_mask_next_clear(&passed, (uint32_t)(*page - base));
	if (*page >= end) {
		*page = end;
		return CLAIM_NONE;
	}
	if (fln_mask_test(&filling, (uint32_t)(*page - base)))
		claim = take_over(image, fill, *page, end);
	else
		claim = fln_fill_begin(image, fill, *page, end, true) ? CLAIM_BEGUN : CLAIM_NONE;
	/* A caller that may take over has the contents, and writes them at once. */
	if (claim == CLAIM_BEGUN)
		fill->writing = may_take_over;
	else if (claim == CLAIM_NONE)
		++*page;
	return claim;
}

/* What is done with each run of unfilled pages of a range. */
typedef int (*fill_run_fn)(struct fln_image *image, struct fln_fill *fill, void *arg);

/* Claim and treat every run of [page, end) that waits to be filled. */
static int each_open_run(struct fln_image *image, uint64_t page, uint64_t end, bool may_take_over,
			 fill_run_fn fn, void *arg)
{
	int first = 0;

	while (page < end) {
		struct fln_fill fill;
		enum claim claim;
		int rc;

		/*
		 * What is FILLING here is this thread's to fill: no handler that could touch
		 * it, and wait for itself, interrupts that.
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
	uint64_t page; /* of the image, at the beginning of buf */
};

static int put_run(struct fln_image *image, struct fln_fill *fill, void *arg)
{
	const struct put *put = arg;
	int rc = fln_image_write(image, fill->page,
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
	rc = each_open_run(image, put.page, put.page + fln_bytes_to_pages(len_bytes), true, put_run,
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
		return fln_fail(ENODATA, "image %s has no source to be filled from", image->name);
	a = &image->filler->opts.alloc;
	buffer = a->alloc(a->ctx, FLN_BLOCK_BYTES, FLN_PAGE_BYTES, FLN_NODE_ANY);
	if (!buffer)
		return fln_fail(ENOMEM, "no memory to fill image %s", image->name);
	memset(buffer, 0, FLN_BLOCK_BYTES);
	entered = fln_rcu_enter();
	rc = each_open_run(image, page, page + fln_bytes_to_pages(len_bytes), false, fln_fill_run,
			   buffer);
	fln_rcu_leave(entered);
	a->free(a->ctx, buffer, FLN_BLOCK_BYTES, FLN_NODE_ANY);
	return rc;
}
