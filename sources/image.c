/* SPDX-License-Identifier: MIT */
/*
 * Images: page states, and the door through which contents come in.
 *
 * Contents come in by fills.  A fill claims a run of UNFILLED pages (FILLING),
 * writes them into the page cache and publishes them (FILLED), all by pieces.
 * fln_image_put() and fln_image_fill() make a fill on their own stack, faults
 * take one from the fillers' pool; from there on it is the same path.
 *
 * States move under image->lock, in move() and nowhere else, and are read
 * without it.  Whoever wants to wait for a page registers under the same lock
 * under which the page would be published, so no wake-up is lost: either the
 * page is found published, or the publisher finds the waiter.
 *
 * fln_image_put() takes a page over from a fill that has not begun to write it:
 * its contents are here, and the source may hang, or fail.  What the source
 * delivers for the page later is dropped.  A fill that writes already goes first.
 *
 * A discard may come while a page is FILLING.  The write cannot be called back,
 * so the page is marked as given up; its fill punches it out again before it
 * publishes it, as ZERO.  Nothing else can have touched it: nobody installs a
 * page that is not published.  That also holds for a discard whose event has
 * been read and not been acted upon yet: publishing waits for it (filler.h).
 * When several guests share the image, a discard by one is a discard for all.
 */
#include "sources/image.h"

#include "base/clock.h"
#include "base/error.h"

#include <errno.h>
#include <fcntl.h>
#include <time.h>
#include <unistd.h>

enum {
	PLANE_FILLING,
	PLANE_FILLED,
	PLANE_ZERO,
	PLANE_FAILED
};

_Static_assert(PLANE_FAILED < FLN_MAP_PLANES, "planes");

#define NO_PLANE UINT32_MAX
#define NO_CACHE_PAUSE_NS (20 * FLN_NS_PER_MS) /* before a fill is put off for want of memory */
#define TO(state) (1u << (state))

/* Where a page may go from each state. */
static const unsigned char image_next[] = {
	[FLN_IMAGE_UNFILLED] = TO(FLN_IMAGE_FILLING) | TO(FLN_IMAGE_ZERO),
	[FLN_IMAGE_FILLING] = TO(FLN_IMAGE_FILLED) | TO(FLN_IMAGE_ZERO) | TO(FLN_IMAGE_FAILED) |
			      TO(FLN_IMAGE_UNFILLED),
	[FLN_IMAGE_FILLED] = TO(FLN_IMAGE_ZERO),
	[FLN_IMAGE_ZERO] = TO(FLN_IMAGE_ZERO),
	[FLN_IMAGE_FAILED] = TO(FLN_IMAGE_FILLING) | TO(FLN_IMAGE_ZERO),
};

_Static_assert(sizeof(image_next) == FLN_IMAGE_NR_STATES, "last state has a row");

static const uint32_t plane_of[] = {
	[FLN_IMAGE_UNFILLED] = NO_PLANE,   [FLN_IMAGE_FILLING] = PLANE_FILLING,
	[FLN_IMAGE_FILLED] = PLANE_FILLED, [FLN_IMAGE_ZERO] = PLANE_ZERO,
	[FLN_IMAGE_FAILED] = PLANE_FAILED,
};

/* Pages of a chunk that are in a state.  Exact only under image->lock. */
static struct fln_mask in_state(const struct fln_chunk *c, enum fln_image_page state)
{
	struct fln_mask any = { { 0 } }, all = fln_mask_range(0, FLN_BLOCK_PAGES);

	if (plane_of[state] != NO_PLANE)
		return fln_chunk_load(c, plane_of[state]);
	for (uint32_t p = 0; p < FLN_MAP_PLANES; p++) {
		struct fln_mask m = fln_chunk_load(c, p);

		any = fln_mask_or(&any, &m);
	}
	return fln_mask_andnot(&all, &any);
}

/* The one place where states of an image move.  All of @pages is in the state @from. */
static void move(struct fln_image *image, struct fln_chunk *c, const struct fln_mask *pages,
		 enum fln_image_page from, enum fln_image_page to) FLN_REQUIRES(image->lock)
{
	bool was_done = from == FLN_IMAGE_FILLED || from == FLN_IMAGE_ZERO;
	bool is_done = to == FLN_IMAGE_FILLED || to == FLN_IMAGE_ZERO;
	uint32_t nr = fln_mask_count(pages);
#ifdef FLN_DEBUG
	struct fln_mask have = in_state(c, from);
	struct fln_mask wrong = fln_mask_andnot(pages, &have);

	FLN_ASSERT(image_next[from] & TO(to));
	FLN_ASSERT(fln_mask_empty(&wrong));
#endif
	if (from == to)
		return;
	/* The new plane first: readers see the page in one state or the other, never in none. */
	if (plane_of[to] != NO_PLANE)
		(void)fln_chunk_set(c, plane_of[to], pages);
	if (plane_of[from] != NO_PLANE)
		fln_chunk_clear(c, plane_of[from], pages);
	if (is_done && !was_done)
		atomic_fetch_add_explicit(&image->nr_done, nr, memory_order_relaxed);
	FLN_ASSERT(is_done || !was_done);
}

/*
 * The chunk to change a block in.  There is always one: a block takes one to
 * begin with, becomes uniform at most once (fills only ever end), and takes one
 * more for discards after that; the pool has two per block.
 */
static struct fln_chunk *chunk_of(struct fln_image *image, uint64_t block) FLN_REQUIRES(image->lock)
{
	struct fln_chunk *c = fln_blockmap_chunk(&image->map, block);

	FLN_ASSERT(c);
	return c;
}

/* Give the chunk back when the whole block is FILLED or ZERO. */
static void collapse(struct fln_image *image, uint64_t block, struct fln_chunk *c)
	FLN_REQUIRES(image->lock)
{
	struct fln_mask valid = fln_blockmap_valid(&image->map, block);
	struct fln_mask filled = in_state(c, FLN_IMAGE_FILLED);
	struct fln_mask zero = in_state(c, FLN_IMAGE_ZERO);
	struct fln_mask done = fln_mask_or(&filled, &zero);
	struct fln_mask rest = fln_mask_andnot(&valid, &done);

	if (!fln_mask_empty(&rest))
		return;
	/* FILLED may stand for ZERO too: the page cache has a hole there, and that decides. */
	zero = fln_mask_and(&zero, &valid);
	(void)fln_blockmap_collapse(&image->map, block, c,
				    fln_mask_count(&zero) == fln_mask_count(&valid)
					    ? 1u << PLANE_ZERO
					    : 1u << PLANE_FILLED);
}

static uint32_t bucket_of(uint64_t page)
{
	return (uint32_t)(page / FLN_BLOCK_PAGES) % FLN_IMAGE_NR_BUCKETS;
}

/* The fill that a page which is FILLING belongs to, or NULL. */
static struct fln_fill *find_fill(struct fln_image *image, uint64_t page) FLN_REQUIRES(image->lock)
{
	struct fln_fill *fill = image->in_flight[bucket_of(page)];

	while (fill && !(page >= fill->page && page < fill->page + fill->nr_pages &&
			 !fln_mask_test(&fill->gone, (uint32_t)(page - fill->page))))
		fill = fill->next_of_image;
	return fill;
}

static void enter_fill(struct fln_image *image, struct fln_fill *fill, uint64_t page,
		       uint32_t nr_pages) FLN_REQUIRES(image->lock)
{
	memset(fill, 0, sizeof(*fill));
	fill->image = image;
	fill->page = page;
	fill->nr_pages = nr_pages;
	fill->next_of_image = image->in_flight[bucket_of(page)];
	image->in_flight[bucket_of(page)] = fill;
}

/*
 * Claim the run of pages from @page on, within [.., end), that wait to be filled
 * (also those that failed, with @also_failed), for @fill.  False: there is none.
 */
static bool begin_fill(struct fln_image *image, struct fln_fill *fill, uint64_t page, uint64_t end,
		       bool also_failed) FLN_REQUIRES(image->lock)
{
	uint64_t block = page / FLN_BLOCK_PAGES, base = block * FLN_BLOCK_PAGES;
	struct fln_chunk *c = chunk_of(image, block);
	struct fln_mask unfilled = in_state(c, FLN_IMAGE_UNFILLED), failed = { { 0 } }, open, run;
	uint32_t lo = (uint32_t)(page - base), hi;

	FLN_DEBUG_ASSERT(end > page && end <= base + FLN_BLOCK_PAGES);
	if (also_failed)
		failed = in_state(c, FLN_IMAGE_FAILED);
	open = fln_mask_or(&unfilled, &failed);
	if (!fln_mask_test(&open, lo))
		return false;
	hi = fln_mask_next_clear(&open, lo);
	if (hi > end - base)
		hi = (uint32_t)(end - base);
	run = fln_mask_range(lo, hi);
	unfilled = fln_mask_and(&unfilled, &run);
	failed = fln_mask_and(&failed, &run);
	move(image, c, &unfilled, FLN_IMAGE_UNFILLED, FLN_IMAGE_FILLING);
	move(image, c, &failed, FLN_IMAGE_FAILED, FLN_IMAGE_FILLING);
	enter_fill(image, fill, page, hi - lo);
	return true;
}

static void end_fill(struct fln_image *image, struct fln_fill *fill)
{
	struct fln_fill **at;

	fln_lock(&image->lock);
	at = &image->in_flight[bucket_of(fill->page)];
	while (*at != fill)
		at = &(*at)->next_of_image;
	*at = fill->next_of_image;
	fln_unlock(&image->lock);
}

static int punch(struct fln_image *image, uint64_t page, uint64_t nr_pages)
{
	if (fallocate(image->memfd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		      (off_t)fln_pages_to_bytes(page), (off_t)fln_pages_to_bytes(nr_pages)) == 0)
		return 0;
	return fln_fail(errno, "image %s: punching %llu pages at page %llu: %s", image->name,
			(unsigned long long)nr_pages, (unsigned long long)page, strerror(errno));
}

static void punch_runs(struct fln_image *image, uint64_t page, const struct fln_mask *pages)
{
	uint32_t lo = 0, hi;

	for (; fln_mask_next_run(pages, &lo, &hi); lo = hi)
		(void)punch(image, page + lo, hi - lo);
}

/* Pages [lo, hi) of a fill, as far as they are still its own. */
static struct fln_mask owned(const struct fln_fill *fill, uint32_t lo, uint32_t hi)
{
	struct fln_mask range = fln_mask_range(lo, hi);

	return fln_mask_andnot(&range, &fill->gone);
}

/* Pages @range of a fill move to @to, and of them @dead to ZERO. */
static void move_run(struct fln_image *image, struct fln_fill *fill, const struct fln_mask *range,
		     const struct fln_mask *dead, enum fln_image_page to) FLN_REQUIRES(image->lock)
{
	uint64_t block = fill->page / FLN_BLOCK_PAGES;
	uint32_t shift = (uint32_t)(fill->page % FLN_BLOCK_PAGES);
	struct fln_mask live = { { 0 } }, zero = { { 0 } };
	struct fln_chunk *c;

	/* All taken over: the block may be whole by now, and have no chunk. */
	if (fln_mask_empty(range))
		return;
	for (uint32_t i = 0; i < fill->nr_pages; i++) {
		if (fln_mask_test(range, i))
			fln_mask_set(fln_mask_test(dead, i) ? &zero : &live, shift + i);
	}
	c = chunk_of(image, block);
	move(image, c, &live, FLN_IMAGE_FILLING, to);
	move(image, c, &zero, FLN_IMAGE_FILLING, FLN_IMAGE_ZERO);
	collapse(image, block, c);
}

/*
 * Publish pages [lo, hi) of a fill in the state @to, those that were given up
 * meanwhile as ZERO, and kick who waits.
 */
static void publish(struct fln_image *image, struct fln_fill *fill, uint32_t lo, uint32_t hi,
		    enum fln_image_page to)
{
	struct fln_mask punched = { { 0 } }, range, fresh, dead;
	uint64_t waiters;

	/* What was given up before we wrote it, or while we did: the image knows from here on. */
	if (to == FLN_IMAGE_FILLED)
		fln_filler_wait_readers(image->filler);
	fln_rcu_read_lock();
	fln_lock(&image->lock);
	for (;;) {
		range = owned(fill, lo, hi);
		dead = fln_mask_and(&fill->given_up, &range);
		fresh = fln_mask_andnot(&dead, &punched);
		if (fln_mask_empty(&fresh))
			break;
		/* Take back what was written after the guest had given the page up. */
		fln_unlock(&image->lock);
		punch_runs(image, fill->page, &fresh);
		punched = fln_mask_or(&punched, &fresh);
		fln_lock(&image->lock);
	}
	move_run(image, fill, &range, &dead, to);
	fill->gone = fln_mask_or(&fill->gone, &range);
	fill->writing = false;
	(void)pthread_cond_broadcast(&image->written);
	waiters = fill->waiters | image->waiters;
	image->waiters = 0;
	fln_unlock(&image->lock);
	fln_rcu_read_unlock();
	if (waiters)
		image->filler->opts.kick(image->filler->opts.kick_ctx, waiters);
}

static int write_failed(const struct fln_image *image, int err, uint64_t offset_bytes,
			uint64_t len_bytes)
{
	if (err == EFAULT)
		return fln_fail(EFAULT,
				"image %s: the buffer with the contents of %llu bytes at "
				"offset %llu cannot be read",
				image->name, (unsigned long long)len_bytes,
				(unsigned long long)offset_bytes);
	return fln_fail(err,
			"image %s: no page cache for %llu bytes at offset %llu: %s; give the "
			"machine or the cgroup more memory",
			image->name, (unsigned long long)len_bytes,
			(unsigned long long)offset_bytes, strerror(err));
}

/* Write whole pages into the page cache; all of them, or none stays there. */
static int write_cache(struct fln_image *image, uint64_t page, const void *buf, uint32_t nr_pages)
{
	uint64_t done = 0, len = fln_pages_to_bytes(nr_pages), at = fln_pages_to_bytes(page);

	while (done < len) {
		ssize_t n = pwrite(image->memfd, (const char *)buf + done, len - done,
				   (off_t)(at + done));
		int err = n < 0 ? errno : EIO;

		if (n < 0 && err == EINTR)
			continue;
		if (n <= 0) {
			/* Who gives the pages up before they are filled must find zeros. */
			(void)punch(image, page, nr_pages);
			return write_failed(image, err, at + done, len - done);
		}
		done += (uint64_t)n;
	}
	return 0;
}

/* Write what has been read of [lo, hi), as far as it is still due; on success publish it next. */
static int write_owned(struct fln_image *image, struct fln_fill *fill, uint32_t lo, uint32_t hi,
		       const char *buffer)
{
	struct fln_mask todo;
	uint32_t at = 0, end;
	int rc = 0;

	fln_lock(&image->lock);
	fill->writing = true;
	todo = owned(fill, lo, hi);
	fln_unlock(&image->lock);
	for (; rc == 0 && fln_mask_next_run(&todo, &at, &end); at = end)
		rc = write_cache(image, fill->page + at, buffer + fln_pages_to_bytes(at - lo),
				 end - at);
	if (rc) {
		punch_runs(image, fill->page, &todo);
		fln_lock(&image->lock);
		fill->writing = false;
		(void)pthread_cond_broadcast(&image->written);
		fln_unlock(&image->lock);
	}
	return rc;
}

/* Has a fill of the fillers to end: are they to stop, or is the image to go? */
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

/*
 * Read pages [lo, hi) of a fill from the source into the cache; tried again when
 * that fails.  Sets fill->put_off when the pages are not to be called failed.
 */
static int fetch(struct fln_image *image, struct fln_fill *fill, uint32_t lo, uint32_t hi,
		 void *buffer, uint32_t nr_retries)
{
	int rc;

	for (uint32_t attempt = 0;; attempt++) {
		fln_lock_assert_none(); /* I2 */
		fill->put_off = must_end(image, fill);
		if (fill->put_off)
			return fln_fail(ECANCELED, "image %s: the fillers stop", image->name);
		rc = fln_source_read_all(image->source, fln_pages_to_bytes(fill->page + lo), buffer,
					 fln_pages_to_bytes(hi - lo));
		if (rc == 0) {
			rc = write_owned(image, fill, lo, hi, buffer);
			/* The source is well, and memory may come back. */
			fill->put_off = rc == -ENOMEM || rc == -ENOSPC;
		}
		if (rc == 0 || fill->put_off || attempt >= nr_retries)
			return rc;
		back_off(image, attempt);
	}
}

/*
 * Fill pages [lo, hi) of a fill, all data.  When the run cannot be read at once,
 * page by page, so that a page that cannot be had takes no other with it.
 */
static int fill_data(struct fln_image *image, struct fln_fill *fill, uint32_t lo, uint32_t hi,
		     void *buffer)
{
	int rc = fetch(image, fill, lo, hi, buffer,
		       hi - lo > 1 ? 0 : image->filler->opts.nr_retries);
	int first = 0;

	if (rc == 0) {
		publish(image, fill, lo, hi, FLN_IMAGE_FILLED);
		return 0;
	}
	for (uint32_t i = lo; i < hi; i++) {
		if (hi - lo > 1)
			rc = fetch(image, fill, i, i + 1, buffer, image->filler->opts.nr_retries);
		if (fill->put_off)
			return first ? first : rc;
		publish(image, fill, i, i + 1, rc ? FLN_IMAGE_FAILED : FLN_IMAGE_FILLED);
		if (rc) {
			fln_log_limited(&image->filler->opts.log, &image->filler->log_limit,
					FLN_LOG_ERROR,
					"image %s: page %llu (offset %llu) cannot be had: %s",
					image->name, (unsigned long long)(fill->page + i),
					(unsigned long long)fln_pages_to_bytes(fill->page + i),
					fln_last_error());
			first = first ? first : rc;
		}
	}
	return first;
}

/*
 * What is left of a fill goes back to UNFILLED.  Faults ask for it again, as long
 * as they have patience with the source, so a want of memory is waited out; not in
 * a circle that takes a whole processor.
 */
static void put_off(struct fln_image *image, struct fln_fill *fill)
{
	if (fill->stoppable && !must_end(image, fill)) {
		fln_log_limited(&image->filler->opts.log, &image->filler->log_limit,
				FLN_LOG_WARNING, "%s; tried again", fln_last_error());
		fln_filler_pause(image->filler, NO_CACHE_PAUSE_NS);
	}
	publish(image, fill, 0, fill->nr_pages, FLN_IMAGE_UNFILLED);
}

static int run_fill(struct fln_image *image, struct fln_fill *fill, void *buffer)
{
	int first = 0;

	fill->put_off = must_end(image, fill);
	for (uint32_t lo = 0; lo < fill->nr_pages && !fill->put_off;) {
		int is_hole = 0, rc = 0;
		uint64_t bytes =
			fln_source_extent(image->source, fln_pages_to_bytes(fill->page + lo),
					  fln_pages_to_bytes(fill->nr_pages - lo), &is_hole);
		uint32_t hi = lo + (uint32_t)fln_bytes_to_pages(bytes);

		FLN_ASSERT(hi > lo && hi <= fill->nr_pages);
		if (is_hole)
			publish(image, fill, lo, hi, FLN_IMAGE_ZERO);
		else
			rc = fill_data(image, fill, lo, hi, buffer);
		first = first ? first : rc;
		lo = hi;
	}
	if (fill->put_off)
		put_off(image, fill);
	return first;
}

void fln_image_run_fill(struct fln_image *image, struct fln_fill *fill, void *buffer)
{
	(void)run_fill(image, fill, buffer);
	end_fill(image, fill);
}

enum fln_image_page fln_image_state(const struct fln_image *image, uint64_t page)
{
	enum fln_image_page state = FLN_IMAGE_UNFILLED;
	bool entered = fln_rcu_enter();

	fln_rcu_read_lock();
	for (enum fln_image_page s = FLN_IMAGE_FILLING; s < FLN_IMAGE_NR_STATES; s++) {
		struct fln_mask m = fln_blockmap_load_span(&image->map, plane_of[s], page, 1);

		if (fln_mask_test(&m, 0)) {
			state = s;
			break;
		}
	}
	fln_rcu_read_unlock();
	fln_rcu_leave(entered);
	return state;
}

void fln_image_ready(const struct fln_image *image, uint64_t page, uint32_t nr_pages,
		     struct fln_mask *filled, struct fln_mask *zero)
{
	*filled = fln_blockmap_load_span(&image->map, PLANE_FILLED, page, nr_pages);
	*zero = fln_blockmap_load_span(&image->map, PLANE_ZERO, page, nr_pages);
	/* A page may move from FILLED to ZERO between the two looks; it is in one at least. */
	*filled = fln_mask_andnot(filled, zero);
}

/* What a fault on a page that no fill covers comes to; registers who waits. */
static enum fln_image_request wait_unfilled(struct fln_image *image, uint64_t page, uint32_t waiter,
					    struct fln_fill **spare) FLN_REQUIRES(image->lock)
{
	uint64_t window = image->filler->opts.fill_pages;
	uint64_t lo = page, first = fln_align_down(page, window), end = first + window;
	struct fln_fill *fill = *spare;
	struct fln_mask open;
	bool begun;

	if (!image->source || !fill) {
		image->waiters |= UINT64_C(1) << waiter;
		return FLN_IMAGE_IS_PENDING;
	}
	if (end > fln_bytes_to_pages(image->len_bytes))
		end = fln_bytes_to_pages(image->len_bytes);
	/* The pages of the window before the fault too, as far as they wait to be filled. */
	open = in_state(chunk_of(image, page / FLN_BLOCK_PAGES), FLN_IMAGE_UNFILLED);
	while (lo > first && fln_mask_test(&open, (uint32_t)((lo - 1) % FLN_BLOCK_PAGES)))
		lo--;
	begun = begin_fill(image, fill, lo, end, false);
	FLN_ASSERT(begun);
	fill->waiters = UINT64_C(1) << waiter;
	*spare = NULL;
	return FLN_IMAGE_IS_PENDING;
}

/* What a request comes to, with the lock held; *spare is used when a fill is needed. */
static enum fln_image_request answer(struct fln_image *image, uint64_t page, uint32_t waiter,
				     struct fln_fill **spare) FLN_REQUIRES(image->lock)
{
	struct fln_fill *covering;

	switch (fln_image_state(image, page)) {
	case FLN_IMAGE_FILLED:
	case FLN_IMAGE_ZERO:
		return FLN_IMAGE_IS_READY;
	case FLN_IMAGE_FAILED:
		return FLN_IMAGE_IS_FAILED;
	case FLN_IMAGE_FILLING:
		covering = find_fill(image, page);
		FLN_ASSERT(covering);
		covering->waiters |= UINT64_C(1) << waiter;
		return FLN_IMAGE_IS_PENDING;
	case FLN_IMAGE_UNFILLED:
	default:
		return wait_unfilled(image, page, waiter, spare);
	}
}

enum fln_image_request fln_image_request(struct fln_image *image, uint64_t page, uint32_t waiter)
{
	bool may_fill = image->source && fln_image_state(image, page) == FLN_IMAGE_UNFILLED, again;
	enum fln_image_request result = FLN_IMAGE_IS_PENDING;
	struct fln_fill *spare, *taken;

	FLN_ASSERT(waiter < FLN_MAX_WAITERS);
	do {
		/* Not under the image's lock: the fillers' comes before it. */
		taken = spare = may_fill ? fln_filler_alloc(image->filler, waiter) : NULL;
		fln_rcu_read_lock();
		fln_lock(&image->lock);
		/* Its fill was put off since the first look: then one is needed after all. */
		again = image->source && !may_fill &&
			fln_image_state(image, page) == FLN_IMAGE_UNFILLED;
		if (!again)
			result = answer(image, page, waiter, &spare);
		fln_unlock(&image->lock);
		fln_rcu_read_unlock();
		may_fill = true;
	} while (again);
	if (taken && spare)
		fln_filler_free(image->filler, taken);
	else if (taken)
		fln_filler_submit(image->filler, &image->queue, taken);
	return result;
}

static int check_range(const struct fln_image *image, uint64_t offset_bytes, uint64_t len_bytes)
{
	if (len_bytes == 0 || !fln_is_aligned(offset_bytes | len_bytes, FLN_PAGE_BYTES))
		return fln_fail(EINVAL,
				"image %s: range of %llu bytes at %llu is empty or no "
				"multiple of %llu",
				image->name, (unsigned long long)len_bytes,
				(unsigned long long)offset_bytes,
				(unsigned long long)FLN_PAGE_BYTES);
	if (offset_bytes > image->len_bytes || len_bytes > image->len_bytes - offset_bytes)
		return fln_fail(EINVAL,
				"image %s: range of %llu bytes at %llu ends beyond the "
				"image's %llu bytes",
				image->name, (unsigned long long)len_bytes,
				(unsigned long long)offset_bytes,
				(unsigned long long)image->len_bytes);
	return 0;
}

enum claim {
	CLAIM_NONE,
	CLAIM_BEGUN,
	CLAIM_BUSY
};

/* Take the run from @page on, which is FILLING, over from its fill, for @fill. */
static enum claim take_over(struct fln_image *image, struct fln_fill *fill, uint64_t page,
			    uint64_t end) FLN_REQUIRES(image->lock)
{
	struct fln_fill *from = find_fill(image, page);
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
	enter_fill(image, fill, page, nr);
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
	c = chunk_of(image, block);
	filling = in_state(c, FLN_IMAGE_FILLING);
	passed = in_state(c, FLN_IMAGE_FILLED);
	zero = in_state(c, FLN_IMAGE_ZERO);
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
		claim = begin_fill(image, fill, *page, end, true) ? CLAIM_BEGUN : CLAIM_NONE;
	/* Whoever may take over has the contents, and writes them at once. */
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
		uint64_t stop = fln_align_down(page, FLN_BLOCK_PAGES) + FLN_BLOCK_PAGES;
		struct fln_fill fill;
		enum claim claim;
		int rc;

		fln_rcu_read_lock();
		fln_lock(&image->lock);
		claim = claim_run(image, &fill, &page, stop < end ? stop : end, may_take_over);
		fln_rcu_read_unlock();
		if (claim == CLAIM_BUSY)
			fln_cond_wait(&image->written, &image->lock);
		fln_unlock(&image->lock);
		if (claim != CLAIM_BEGUN)
			continue;
		rc = fn(image, &fill, arg);
		end_fill(image, &fill);
		first = first ? first : rc;
		page += fill.nr_pages;
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
	int rc = write_cache(image, fill->page,
			     put->buf + fln_pages_to_bytes(fill->page - put->page), fill->nr_pages);

	publish(image, fill, 0, fill->nr_pages, rc ? FLN_IMAGE_UNFILLED : FLN_IMAGE_FILLED);
	return rc;
}

int fln_image_put(struct fln_image *image, uint64_t offset_bytes, const void *buf,
		  uint64_t len_bytes)
{
	struct put put = { .buf = buf, .page = fln_bytes_to_pages(offset_bytes) };
	int rc = check_range(image, offset_bytes, len_bytes);
	bool entered;

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
	const struct fln_allocator *a = &image->filler->opts.alloc;
	uint64_t page = fln_bytes_to_pages(offset_bytes);
	int rc = check_range(image, offset_bytes, len_bytes);
	bool entered;
	void *buffer;

	if (rc)
		return rc;
	if (!image->source)
		return fln_fail(ENODATA, "image %s has no source to be filled from", image->name);
	buffer = a->alloc(a->ctx, FLN_BLOCK_BYTES, FLN_PAGE_BYTES, FLN_NODE_ANY);
	if (!buffer)
		return fln_fail(ENOMEM, "no memory to fill image %s", image->name);
	memset(buffer, 0, FLN_BLOCK_BYTES);
	entered = fln_rcu_enter();
	rc = each_open_run(image, page, page + fln_bytes_to_pages(len_bytes), false, run_fill,
			   buffer);
	fln_rcu_leave(entered);
	a->free(a->ctx, buffer, FLN_BLOCK_BYTES, FLN_NODE_ANY);
	return rc;
}

/* Within one block: what is not filled becomes ZERO; with @filled_too, what is as well. */
static void give_up_block(struct fln_image *image, uint64_t block, uint32_t lo, uint32_t hi,
			  bool filled_too) FLN_REQUIRES(image->lock)
{
	int uniform = fln_blockmap_uniform(&image->map, block);
	struct fln_mask range = fln_mask_range(lo, hi);
	struct fln_chunk *c;

	if (uniform == 1 << PLANE_ZERO || (uniform == 1 << PLANE_FILLED && !filled_too))
		return;
	c = chunk_of(image, block);
	for (enum fln_image_page s = FLN_IMAGE_UNFILLED; s < FLN_IMAGE_NR_STATES; s++) {
		struct fln_mask pages = in_state(c, s);
		uint32_t at = 0, end;

		pages = fln_mask_and(&pages, &range);
		if (s != FLN_IMAGE_FILLING) {
			if (s != FLN_IMAGE_FILLED || filled_too)
				move(image, c, &pages, s, FLN_IMAGE_ZERO);
			continue;
		}
		for (; fln_mask_next_run(&pages, &at, &end); at = end) {
			for (uint32_t i = at; i < end; i++) {
				uint64_t page = block * FLN_BLOCK_PAGES + i;
				struct fln_fill *fill = find_fill(image, page);

				FLN_ASSERT(fill);
				fln_mask_set(&fill->given_up, (uint32_t)(page - fill->page));
			}
		}
	}
}

static void give_up(struct fln_image *image, uint64_t page, uint64_t nr_pages, bool filled_too)
{
	uint64_t end = page + nr_pages, waiters;

	while (page < end) {
		uint64_t block = page / FLN_BLOCK_PAGES, base = block * FLN_BLOCK_PAGES;
		uint64_t stop = base + FLN_BLOCK_PAGES < end ? base + FLN_BLOCK_PAGES : end;

		fln_rcu_read_lock();
		fln_lock(&image->lock);
		give_up_block(image, block, (uint32_t)(page - base), (uint32_t)(stop - base),
			      filled_too);
		waiters = image->waiters;
		image->waiters = 0;
		fln_unlock(&image->lock);
		fln_rcu_read_unlock();
		if (waiters)
			image->filler->opts.kick(image->filler->opts.kick_ctx, waiters);
		page = stop;
	}
}

void fln_image_give_up(struct fln_image *image, uint64_t page, uint64_t nr_pages)
{
	give_up(image, page, nr_pages, false);
}

int fln_image_discard(struct fln_image *image, uint64_t offset_bytes, uint64_t len_bytes)
{
	int rc = check_range(image, offset_bytes, len_bytes);
	bool entered;

	if (rc)
		return rc;
	entered = fln_rcu_enter();
	give_up(image, fln_bytes_to_pages(offset_bytes), fln_bytes_to_pages(len_bytes), true);
	fln_rcu_leave(entered);
	return punch(image, fln_bytes_to_pages(offset_bytes), fln_bytes_to_pages(len_bytes));
}

uint32_t fln_image_note_hole(struct fln_image *image, uint64_t page, uint32_t nr_pages)
{
	off_t next = lseek(image->memfd, (off_t)fln_pages_to_bytes(page), SEEK_DATA);
	uint64_t end = page + nr_pages;

	/* ENXIO: nothing but holes from here on. */
	if (next >= 0 && fln_bytes_to_pages((uint64_t)next) < end)
		end = fln_bytes_to_pages((uint64_t)next);
	if (end <= page)
		end = page + 1; /* it has come back since; the caller looks again */
	else
		give_up(image, page, end - page, true);
	return (uint32_t)(end - page);
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
	image->len_bytes = opts->len_bytes;
	(void)snprintf(image->name, sizeof(image->name), "%s",
		       opts->name ? opts->name : "faultlane");
	if (nr_blocks > (UINT32_MAX >> 1))
		return fln_fail(EINVAL, "image %s: %llu bytes are more than an image can hold",
				image->name, (unsigned long long)opts->len_bytes);
	rc = fln_image_open_memfd(image, opts);
	if (rc)
		return rc;
	rc = fln_blockmap_init(&image->map, 0, nr_pages, (uint32_t)nr_blocks * 2,
			       filled ? 1u << PLANE_FILLED : 0);
	if (rc) {
		fln_image_close_memfd(image);
		return rc;
	}
	atomic_store_explicit(&image->nr_done, filled ? nr_pages : 0, memory_order_relaxed);
	fln_lock_init(&image->lock, FLN_RANK_IMAGE);
	fln_cond_init(&image->written);
	fln_filler_add_queue(image->filler, &image->queue, image->source);
	if (image->source)
		fln_source_get(image->source);
	return 0;
}

/* Pages of a fill that no thread has begun go back to UNFILLED. */
static void cancel_fill(struct fln_image *image, struct fln_fill *fill)
{
	publish(image, fill, 0, fill->nr_pages, FLN_IMAGE_UNFILLED);
	end_fill(image, fill);
	fln_filler_free(image->filler, fill);
}

int fln_image_deinit(struct fln_image *image, uint64_t deadline_ns)
{
	struct fln_fill *fill = fln_filler_withdraw(image->filler, &image->queue);
	bool entered = fln_rcu_enter();

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
