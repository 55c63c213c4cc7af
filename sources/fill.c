/* SPDX-License-Identifier: MIT */
/*
 * Runs a fill from the source: read, write into the page cache, publish, one run after another.
 */
#include "sources/fill.h"
#include "sources/filler_threads.h"
#include "sources/folio.h"
#include "sources/huge.h"
#include "sources/image_cache.h"
#include "sources/image_punch_unfilled.h"
#include "sources/image_state.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/file_size.h"
#include "base/plant.h"

#include <errno.h>
#include <unistd.h>

#define NO_MEMORY_PAUSE_NS (20 * FLN_NS_PER_MS) /* before a fill without memory is put off */

/*
 * From here on no other fill takes over pages of this one.  Return: the pages of [lo, hi) that
 * the fill still owns.
 */
static struct fln_mask begin_writing(struct fln_image *image, struct fln_fill *fill, uint32_t lo,
				     uint32_t hi)
{
	struct fln_mask owned;

	fln_lock(&image->lock);
	fill->writing = true;
	owned = fln_fill_owned(fill, lo, hi);
	fln_unlock(&image->lock);
	return owned;
}

/* Undo begin_writing() when nothing was published. */
static void end_writing(struct fln_image *image, struct fln_fill *fill)
{
	fln_lock(&image->lock);
	fill->writing = false;
	(void)pthread_cond_broadcast(&image->written);
	fln_unlock(&image->lock);
}

/*
 * Write the pages of [lo, hi) that the fill still owns.  On success the caller must publish
 * them next.
 */
static int write_owned(struct fln_image *image, struct fln_fill *fill, uint32_t lo, uint32_t hi,
		       const char *buffer)
{
	struct fln_mask todo = begin_writing(image, fill, lo, hi);
	uint32_t at = 0, end;
	int rc = 0;

	for (; rc == 0 && fln_mask_next_run(&todo, &at, &end); at = end)
		rc = fln_image_write_or_trim(image, fill->page + at,
					     buffer + fln_pages_to_bytes(at - lo), end - at);
	if (rc) {
		fln_image_punch_runs(image, fill->page, &todo);
		end_writing(image, fill);
	}
	return rc;
}

/* Must a filler thread end the fill early, because the fillers stop or the image is destroyed? */
static bool must_end(const struct fln_image *image, const struct fln_fill *fill)
{
	return fill->stoppable &&
	       (atomic_load_explicit(&image->filler->stopping, memory_order_relaxed) ||
		atomic_load_explicit(&image->ending, memory_order_relaxed));
}

static void back_off(struct fln_image *image, uint32_t attempt)
{
	fln_filler_pause(image->filler, FLN_NS_PER_MS << (attempt < 6 ? attempt : 6));
}

/* Errors that a retry cannot cure: a file size limit, a seal, unreadable source memory. */
static bool is_lasting(const struct fln_image *image, int rc)
{
	return rc == -EFBIG || rc == -EPERM || (rc == -EFAULT && image->source->memory);
}

/*
 * Read pages [lo, hi) of a fill from the source into the page cache, with up to @nr_retries
 * retries.  Sets fill->put_off when the pages must go back to UNFILLED rather than fail.
 */
static int fetch(struct fln_image *image, struct fln_fill *fill, uint32_t lo, uint32_t hi,
		 void *buffer, uint32_t nr_retries)
{
	const void *contents;
	uint64_t shift = 0, begun_ns;
	int rc;

	for (uint32_t attempt = 0;; attempt++) {
		fln_lock_assert_none(); /* I2 */
		fill->put_off = must_end(image, fill);
		if (fill->put_off)
			return fln_fail(ECANCELED, "image %s: the fillers are stopping",
					image->name);
		if (fln_planted_in(FLN_BUG_NEIGHBOUR, 16) &&
		    fill->page + hi < fln_bytes_to_pages(image->len_bytes))
			shift = 1;
		begun_ns = fln_now_ns();
		rc = fln_source_fetch(image->source, fln_pages_to_bytes(fill->page + lo + shift),
				      buffer, fln_pages_to_bytes(hi - lo), &contents);
		if (rc == 0) {
			fln_source_note(image->source, hi - lo, fln_now_ns() - begun_ns);
			rc = write_owned(image, fill, lo, hi, contents);
			/* Not the source's failure, and memory may become free again. */
			fill->put_off = rc == -ENOMEM || rc == -ENOSPC;
		}
		if (rc == 0 || fill->put_off || attempt >= nr_retries || is_lasting(image, rc))
			return rc;
		back_off(image, attempt);
	}
}

/* Publish pages [lo, hi) of a fill as FILLED, or as FAILED with the error @rc. */
static int publish_fetched(struct fln_image *image, struct fln_fill *fill, uint32_t lo, uint32_t hi,
			   int rc)
{
	fln_fill_publish(image, fill, lo, hi, rc ? FLN_IMAGE_FAILED : FLN_IMAGE_FILLED);
	if (rc)
		fln_log_limited(&image->filler->opts.log, &image->log_limit, FLN_LOG_ERROR,
				"image %s: page %llu (offset %llu) failed: %s", image->name,
				(unsigned long long)(fill->page + lo),
				(unsigned long long)fln_pages_to_bytes(fill->page + lo),
				fln_last_error());
	return rc;
}

/*
 * Read into the folio itself the pages from @lo on that the source has at hand, and publish them.
 * Return: the end of what was published; the pages from there to @hi are the fill's as before,
 * FILLING, and read zero.
 *
 * Others may have to wait for us, because pages are not taken over while they are written, so
 * nothing here waits for a device.  To try and see does not do: a read that is not to wait may begin
 * readahead, and that may wait.  So the source is asked before.  What remains is that the pages
 * leave the source's cache in between, or that one of them is the kernel's mark to read further
 * ahead.
 *
 * Pages that were given up meanwhile are written as well; fln_fill_publish() punches them out.
 */
static uint32_t fill_in_place(struct fln_image *image, struct fln_fill *fill, uint32_t lo,
			      uint32_t hi)
{
	uint32_t at = 0, end, upto;
	struct fln_mask todo;

	hi = lo + (uint32_t)fln_bytes_to_pages(
			  fln_source_at_hand(image->source, fln_pages_to_bytes(fill->page + lo),
					     fln_pages_to_bytes(hi - lo)));
	if (hi == lo)
		return lo;
	upto = hi;
	todo = begin_writing(image, fill, lo, hi);
	for (; upto == hi && fln_mask_next_run(&todo, &at, &end); at = end) {
		uint64_t page = fill->page + at, from = fln_pages_to_bytes(page);
		uint64_t begun_ns = fln_now_ns();
		uint64_t n = fln_source_read_at_hand(image->source, from, image->alias + from,
						     fln_pages_to_bytes(end - at));
		uint32_t nr = (uint32_t)fln_bytes_to_pages(n);

		if (nr > 0)
			fln_source_note(image->source, nr, fln_now_ns() - begun_ns);

		/* What no fill has published reads zero; of whole pages all was written, or nothing. */
		if (!fln_is_aligned(n, FLN_PAGE_BYTES) &&
		    fln_alias_zero(image, page + nr, page + nr + 1) != 0)
			(void)fln_image_punch(image, page + nr, 1);
		if (nr < end - at)
			upto = at + nr;
	}
	if (upto > lo)
		fln_fill_publish(image, fill, lo, upto, FLN_IMAGE_FILLED);
	else
		end_writing(image, fill);
	return upto;
}

/*
 * Fill pages [lo, hi) of a fill, which are all data.  If reading the whole run fails, read
 * page by page, so that a failing page does not fail its neighbours.  A huge page
 * fails as a whole.
 */
static int fill_data(struct fln_image *image, struct fln_fill *fill, uint32_t lo, uint32_t hi,
		     void *buffer)
{
	uint32_t nr_retries = image->filler->opts.nr_retries;
	bool at_once;
	int rc, first = 0;

	/* Before pages are being written: the kernel may take its time to have a large folio. */
	if (fln_file_size_permitted(fln_pages_to_bytes(fill->page + hi)) &&
	    fln_folio_begin_fill(&image->folios, fill->page + lo, hi - lo))
		lo = fill_in_place(image, fill, lo, hi);
	if (lo == hi)
		return 0;
	at_once = hi - lo == 1 || fln_image_is_huge(image);
	rc = fetch(image, fill, lo, hi, buffer, at_once ? nr_retries : 0);
	if (rc == 0 || (at_once && !fill->put_off))
		return publish_fetched(image, fill, lo, hi, rc);
	if (at_once)
		return rc;
	for (uint32_t i = lo; i < hi; i++) {
		rc = fetch(image, fill, i, i + 1, buffer, nr_retries);
		if (rc && fln_planted(FLN_BUG_ZEROS_FOR_FAILED)) {
			memset(buffer, 0, FLN_PAGE_BYTES);
			rc = fln_image_write(image, fill->page + i, buffer, 1);
		}
		if (fill->put_off)
			return first ? first : rc;
		(void)publish_fetched(image, fill, i, i + 1, rc);
		first = first ? first : rc;
	}
	return first;
}

/*
 * Fill pages [lo, hi) of a fill, which are a hole of the source.  The page cache need not be
 * empty there: an adopted memfd may arrive with contents.
 */
static int fill_hole(struct fln_image *image, struct fln_fill *fill, uint32_t lo, uint32_t hi)
{
	struct fln_mask todo = begin_writing(image, fill, lo, hi);
	uint32_t at = 0, end;
	int rc = 0;

	for (; rc == 0 && fln_mask_next_run(&todo, &at, &end); at = end)
		rc = fln_image_empty(image, fill->page + at, end - at);
	if (rc) {
		end_writing(image, fill);
		return publish_fetched(image, fill, lo, hi, rc);
	}
	fln_fill_publish(image, fill, lo, hi, FLN_IMAGE_ZERO);
	return 0;
}

/*
 * Put the rest of a fill back to UNFILLED.  Faults request it again until the region's
 * source timeout, so a shortage of memory is waited out.  The pause keeps that
 * from becoming a busy loop.
 */
static void put_off(struct fln_image *image, struct fln_fill *fill)
{
	if (fill->stoppable && !must_end(image, fill)) {
		fln_log_limited(&image->filler->opts.log, &image->log_limit, FLN_LOG_WARNING,
				"%s; the fill will be tried again", fln_last_error());
		fln_filler_pause(image->filler, NO_MEMORY_PAUSE_NS);
	}
	fln_fill_publish(image, fill, 0, fill->nr_pages, FLN_IMAGE_UNFILLED);
}

/* Fill and publish pages [lo, end) of a fill. */
static int fill_part(struct fln_image *image, struct fln_fill *fill, uint32_t lo, uint32_t end,
		     void *buffer)
{
	int first = 0;

	while (lo < end && !fill->put_off) {
		int is_hole = 0, rc = 0;
		uint64_t bytes =
			fln_source_extent(image->source, fln_pages_to_bytes(fill->page + lo),
					  fln_pages_to_bytes(end - lo), &is_hole);
		uint32_t hi = lo + (uint32_t)fln_bytes_to_pages(bytes);

		FLN_ASSERT(hi > lo && hi <= end);
		if (is_hole)
			rc = fill_hole(image, fill, lo, hi);
		else
			rc = fill_data(image, fill, lo, hi, buffer);
		first = first ? first : rc;
		lo = hi;
	}
	return first;
}

int fln_fill_run(struct fln_image *image, struct fln_fill *fill, void *buffer)
{
	uint32_t part = image->filler->opts.fill_pages, lo = 0, hi = fill->nr_pages;
	int first = 0, rc;

	/* What a fault waits for comes first: as much as a fill for it alone would have read. */
	if (fill->has_urgent && fill->nr_pages > part && !fln_image_is_huge(image)) {
		uint64_t from = fln_align_down(fill->page + fill->urgent, part);

		lo = from > fill->page ? (uint32_t)(from - fill->page) : 0;
		hi = (uint32_t)(from + part - fill->page);
		hi = hi < fill->nr_pages ? hi : fill->nr_pages;
	}
	fill->put_off = must_end(image, fill);
	first = fill_part(image, fill, lo, hi, buffer);
	rc = fill_part(image, fill, hi, fill->nr_pages, buffer);
	first = first ? first : rc;
	rc = fill_part(image, fill, 0, lo, buffer);
	first = first ? first : rc;
	if (fill->put_off)
		put_off(image, fill);
	return first;
}

void fln_image_run_fill(struct fln_image *image, struct fln_fill *fill, void *buffer)
{
	if (fill->trims) {
		fln_image_run_trim(image, fill);
		return;
	}
	(void)fln_fill_run(image, fill, buffer);
	fln_fill_end(image, fill);
}
