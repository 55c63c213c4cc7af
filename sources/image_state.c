/* SPDX-License-Identifier: MIT */
/*
 * The states of an image's pages, their transitions, and the fills that cause them.
 *
 * Contents arrive by fills.  A fill claims a run of UNFILLED pages (FILLING),
 * writes them into the page cache and publishes them (FILLED), in one or several steps.
 * fln_image_put() and fln_image_fill() use a fill on their own stack, faults
 * one from the fillers' pool; otherwise the path is the same.
 *
 * States change under image->lock, only in fln_image_move(), and are read
 * without it.  A waiter registers under the same lock
 * under which the page is published, so no wake-up is lost: either the
 * waiter finds the page published, or the publisher finds the waiter.
 *
 * fln_image_put() takes over pages from a fill that has not begun to write:
 * it has the contents, whereas the source may hang or fail.  What the source
 * delivers for these pages later is dropped.  fln_image_put() waits for a fill that
 * is writing.
 *
 * A ZERO page may be installed, which maps what the page cache has there.  That need not be
 * zeros: an adopted memfd may arrive with contents.  So no page moves directly from
 * UNFILLED or FAILED to ZERO: it is first claimed as by a fill, then
 * emptied in the page cache (fln_image_empty()), then published.
 */
#include "sources/image_state.h"

#include "base/error.h"
#include "base/plant.h"
#include "base/rcu.h"
#include "sources/image_cache.h"
#include "sources/image_poison.h"
#include "sources/reading.h"

#include <errno.h>
#include <unistd.h>

_Static_assert(FLN_IMAGE_PLANE_FAILED < FLN_MAP_PLANES, "planes");

#define NO_PLANE UINT32_MAX
#define TO(state) (1u << (state))

/* The permitted transitions from each state. */
static const unsigned char image_next[] = {
	[FLN_IMAGE_UNFILLED] = TO(FLN_IMAGE_FILLING),
	[FLN_IMAGE_FILLING] = TO(FLN_IMAGE_FILLED) | TO(FLN_IMAGE_ZERO) | TO(FLN_IMAGE_FAILED) |
			      TO(FLN_IMAGE_UNFILLED),
	[FLN_IMAGE_FILLED] = TO(FLN_IMAGE_ZERO),
	[FLN_IMAGE_ZERO] = TO(FLN_IMAGE_ZERO),
	[FLN_IMAGE_FAILED] = TO(FLN_IMAGE_FILLING) | TO(FLN_IMAGE_UNFILLED),
};

_Static_assert(sizeof(image_next) == FLN_IMAGE_NR_STATES, "last state has a row");

static const uint32_t plane_of[] = {
	[FLN_IMAGE_UNFILLED] = NO_PLANE,
	[FLN_IMAGE_FILLING] = FLN_IMAGE_PLANE_FILLING,
	[FLN_IMAGE_FILLED] = FLN_IMAGE_PLANE_FILLED,
	[FLN_IMAGE_ZERO] = FLN_IMAGE_PLANE_ZERO,
	[FLN_IMAGE_FAILED] = FLN_IMAGE_PLANE_FAILED,
};

struct fln_mask fln_image_in_state(const struct fln_chunk *c, enum fln_image_page state)
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

void fln_image_move(struct fln_image *image, struct fln_chunk *c, const struct fln_mask *pages,
		    enum fln_image_page from, enum fln_image_page to) FLN_REQUIRES(image->lock)
{
	bool was_done = from == FLN_IMAGE_FILLED || from == FLN_IMAGE_ZERO;
	bool is_done = to == FLN_IMAGE_FILLED || to == FLN_IMAGE_ZERO;
	uint64_t nr = fln_mask_count(pages);
#ifdef FLN_DEBUG
	struct fln_mask have = fln_image_in_state(c, from);
	struct fln_mask wrong = fln_mask_andnot(pages, &have);

	FLN_ASSERT(image_next[from] & TO(to));
	FLN_ASSERT(fln_mask_empty(&wrong));
#endif
	if (from == to)
		return;
	/* Set the new plane first, so that readers always see the page in one of the two states. */
	if (plane_of[to] != NO_PLANE)
		(void)fln_chunk_set(c, plane_of[to], pages);
	if (plane_of[from] != NO_PLANE)
		fln_chunk_clear(c, plane_of[from], pages);
	FLN_ASSERT(is_done || !was_done);
	if (!is_done || was_done || nr == 0)
		return;
	nr += atomic_fetch_add_explicit(&image->nr_done, nr, memory_order_relaxed);
	if (nr == fln_bytes_to_pages(image->len_bytes) && image->filler->opts.filled)
		image->filler->opts.filled(image->filler->opts.kick_ctx, image);
}

/*
 * The pool has two chunks per block, so one is always available: a block takes one
 * initially, becomes uniform at most once, and takes one
 * more for discards after that.
 */
struct fln_chunk *fln_image_chunk(struct fln_image *image, uint64_t block) FLN_REQUIRES(image->lock)
{
	struct fln_chunk *c = fln_blockmap_chunk(&image->map, block);

	FLN_ASSERT(c);
	return c;
}

/*
 * Return the chunk to the pool when the whole block is FILLED or ZERO.  A mixed block keeps it if
 * a region may have poison there, because poison is lifted from ZERO pages only.
 * Returns the workers that wait for whole blocks, if it is one.
 */
static uint64_t collapse(struct fln_image *image, uint64_t block, struct fln_chunk *c)
	FLN_REQUIRES(image->lock)
{
	struct fln_mask valid = fln_blockmap_valid(&image->map, block);
	struct fln_mask filled = fln_image_in_state(c, FLN_IMAGE_FILLED);
	struct fln_mask zero = fln_image_in_state(c, FLN_IMAGE_ZERO);
	struct fln_mask done = fln_mask_or(&filled, &zero);
	struct fln_mask rest = fln_mask_andnot(&valid, &done);
	uint32_t to = FLN_IMAGE_PLANE_FILLED;

	if (!fln_mask_empty(&rest))
		return 0;
	zero = fln_mask_and(&zero, &valid);
	if (fln_mask_count(&zero) == fln_mask_count(&valid))
		to = FLN_IMAGE_PLANE_ZERO;
	else if (!fln_mask_empty(&zero) && !fln_planted(FLN_BUG_GIVEN_UP_AS_FILLED) &&
		 fln_image_may_have_poison(image, block * FLN_BLOCK_PAGES, FLN_BLOCK_PAGES))
		return atomic_exchange(&image->block_waiters, 0);
	/*
	 * A uniformly FILLED block may include ZERO pages: an install finds the hole in the cache, or
	 * the zeros of a large folio.
	 */
	(void)fln_blockmap_collapse(&image->map, block, c, 1u << to);
	return atomic_exchange(&image->block_waiters, 0);
}

static uint32_t bucket_of(uint64_t page)
{
	return (uint32_t)(page / FLN_BLOCK_PAGES) % FLN_IMAGE_NR_BUCKETS;
}

struct fln_fill *fln_fill_find(struct fln_image *image, uint64_t page) FLN_REQUIRES(image->lock)
{
	struct fln_fill *fill = image->in_flight[bucket_of(page)];

	while (fill && !(page >= fill->page && page < fill->page + fill->nr_pages &&
			 !fln_mask_test(&fill->gone, (uint32_t)(page - fill->page))))
		fill = fill->next_of_image;
	return fill;
}

void fln_fill_enter(struct fln_image *image, struct fln_fill *fill, uint64_t page,
		    uint32_t nr_pages) FLN_REQUIRES(image->lock)
{
	memset(fill, 0, sizeof(*fill));
	fill->image = image;
	fill->page = page;
	fill->nr_pages = nr_pages;
	fill->next_of_image = image->in_flight[bucket_of(page)];
	image->in_flight[bucket_of(page)] = fill;
}

bool fln_fill_begin(struct fln_image *image, struct fln_fill *fill, uint64_t page, uint64_t end,
		    bool also_failed) FLN_REQUIRES(image->lock)
{
	uint64_t block = page / FLN_BLOCK_PAGES, base = block * FLN_BLOCK_PAGES;
	struct fln_chunk *c = fln_image_chunk(image, block);
	struct fln_mask unfilled = fln_image_in_state(c, FLN_IMAGE_UNFILLED), failed = { { 0 } },
			claimable, run;
	uint32_t lo = (uint32_t)(page - base), hi;

	FLN_DEBUG_ASSERT(end > page && end <= base + FLN_BLOCK_PAGES);
	if (also_failed)
		failed = fln_image_in_state(c, FLN_IMAGE_FAILED);
	claimable = fln_mask_or(&unfilled, &failed);
	if (!fln_mask_test(&claimable, lo))
		return false;
	hi = fln_mask_next_clear(&claimable, lo);
	if (hi > end - base)
		hi = (uint32_t)(end - base);
	run = fln_mask_range(lo, hi);
	unfilled = fln_mask_and(&unfilled, &run);
	failed = fln_mask_and(&failed, &run);
	fln_image_move(image, c, &unfilled, FLN_IMAGE_UNFILLED, FLN_IMAGE_FILLING);
	fln_image_move(image, c, &failed, FLN_IMAGE_FAILED, FLN_IMAGE_FILLING);
	fln_fill_enter(image, fill, page, hi - lo);
	fill->again = !fln_mask_empty(&failed);
	return true;
}

void fln_fill_end(struct fln_image *image, struct fln_fill *fill)
{
	struct fln_fill **at;

	fln_lock(&image->lock);
	at = &image->in_flight[bucket_of(fill->page)];
	while (*at != fill)
		at = &(*at)->next_of_image;
	*at = fill->next_of_image;
	fln_unlock(&image->lock);
}

struct fln_mask fln_fill_owned(const struct fln_fill *fill, uint32_t lo, uint32_t hi)
{
	struct fln_mask range = fln_mask_range(lo, hi);

	return fln_mask_andnot(&range, &fill->gone);
}

/* Release: a reader that sees the new count sees the new states. */
void fln_image_note_change(struct fln_image *image, uint64_t page)
{
	_Atomic uint32_t *changes = image->filler->changes;

	(void)atomic_fetch_add_explicit(&changes[fln_image_slot(image, page)], 1,
					memory_order_release);
	(void)atomic_fetch_add_explicit(&changes[fln_image_slot(image, FLN_ANY_PAGE)], 1,
					memory_order_release);
}

/* Waiters are removed although their page may not be ready: they must request again. */
static void count_let_go(struct fln_image *image) FLN_REQUIRES(image->lock)
{
	(void)atomic_fetch_add_explicit(&image->nr_let_go, 1, memory_order_relaxed);
}

uint64_t fln_image_take_waiters(struct fln_image *image) FLN_REQUIRES(image->lock)
{
	uint64_t waiters = image->waiters, one = 1;

	if (waiters)
		count_let_go(image);
	image->waiters = 0;
	for (struct fln_listener *l = image->listeners; l; l = l->next) {
		if (!l->waits)
			continue;
		l->waits = false;
		(void)!write(l->event_fd, &one, sizeof(one));
	}
	return waiters;
}

void fln_image_kick(struct fln_image *image, uint64_t waiters)
{
	if (waiters)
		fln_filler_tell(image->filler, waiters, FLN_CHANGE_PAGES, fln_image_set(image));
}

/* Move the pages @range of a fill to @to, but those in @dead to ZERO.  Returns as collapse(). */
static uint64_t move_run(struct fln_image *image, struct fln_fill *fill,
			 const struct fln_mask *range, const struct fln_mask *dead,
			 enum fln_image_page to) FLN_REQUIRES(image->lock)
{
	uint64_t block = fill->page / FLN_BLOCK_PAGES;
	uint32_t shift = (uint32_t)(fill->page % FLN_BLOCK_PAGES);
	struct fln_mask live = { { 0 } }, zero = { { 0 } };
	struct fln_chunk *c;

	/* All pages were taken over: the block may be uniform by now and need no chunk. */
	if (fln_mask_empty(range))
		return 0;
	for (uint32_t i = 0; i < fill->nr_pages; i++) {
		if (fln_mask_test(range, i))
			fln_mask_set(fln_mask_test(dead, i) ? &zero : &live, shift + i);
	}
	c = fln_image_chunk(image, block);
	fln_image_move(image, c, &live, FLN_IMAGE_FILLING, to);
	fln_image_move(image, c, &zero, FLN_IMAGE_FILLING, FLN_IMAGE_ZERO);
	return collapse(image, block, c);
}

void fln_fill_publish(struct fln_image *image, struct fln_fill *fill, uint32_t lo, uint32_t hi,
		      enum fln_image_page to)
{
	struct fln_mask punched = { { 0 } }, range, fresh, dead;
	uint64_t waiters, of_blocks;

	/* After this the image knows of all discards before and during our write. */
	if (to == FLN_IMAGE_FILLED)
		fln_filler_wait_readers(image->filler);
	fln_rcu_read_lock();
	fln_lock(&image->lock);
	for (;;) {
		range = fln_fill_owned(fill, lo, hi);
		dead = fln_mask_and(&fill->given_up, &range);
		fresh = fln_mask_andnot(&dead, &punched);
		if (fln_mask_empty(&fresh))
			break;
		/* Punch out what was written after the guest had discarded the page. */
		fln_unlock(&image->lock);
		fln_image_punch_runs(image, fill->page, &fresh);
		punched = fln_mask_or(&punched, &fresh);
		fln_lock(&image->lock);
	}
	of_blocks = move_run(image, fill, &range, &dead, to);
	if (to == FLN_IMAGE_FILLED) {
		fresh = fln_mask_andnot(&range, &dead);
		fln_folio_filled(&image->folios, fill->page, fln_mask_count(&fresh));
	}
	fln_image_note_change(image, fill->page);
	fill->gone = fln_mask_or(&fill->gone, &range);
	fill->writing = false;
	(void)pthread_cond_broadcast(&image->written);
	waiters = fill->waiters | fln_image_take_waiters(image);
	/* Before the waiters look, another fill may claim unfilled pages or another part. */
	if (fill->waiters &&
	    (to == FLN_IMAGE_UNFILLED || to == FLN_IMAGE_FAILED || fln_image_is_huge(image)))
		count_let_go(image);
	fln_unlock(&image->lock);
	fln_rcu_read_unlock();
	fln_image_kick(image, waiters | of_blocks);
}

/*
 * Move the pages @known of one block, which are FILLED or ZERO in the owner's process, to @to;
 * adds their waiters to *waiters.  Return: whether any page has changed.
 */
static bool learn_pages(struct fln_image *image, uint64_t block, struct fln_chunk *c,
			const struct fln_mask *known, enum fln_image_page to, uint64_t *waiters)
	FLN_REQUIRES(image->lock)
{
	static const enum fln_image_page from[] = { FLN_IMAGE_UNFILLED, FLN_IMAGE_FAILED };
	struct fln_mask pages = fln_image_in_state(c, FLN_IMAGE_FILLING);
	bool news;

	pages = fln_mask_and(&pages, known);
	news = !fln_mask_empty(&pages);
	for (uint32_t i = fln_mask_next_set(&pages, 0); i < FLN_BLOCK_PAGES;
	     i = fln_mask_next_set(&pages, i + 1)) {
		struct fln_fill *fill = fln_fill_find(image, block * FLN_BLOCK_PAGES + i);

		FLN_ASSERT(fill);
		fln_mask_set(&fill->gone, (uint32_t)(block * FLN_BLOCK_PAGES + i - fill->page));
		*waiters |= fill->waiters;
	}
	fln_image_move(image, c, &pages, FLN_IMAGE_FILLING, to);
	for (uint32_t s = 0; s < 2; s++) {
		pages = fln_image_in_state(c, from[s]);
		pages = fln_mask_and(&pages, known);
		news |= !fln_mask_empty(&pages);
		fln_image_move(image, c, &pages, from[s], FLN_IMAGE_FILLING);
		fln_image_move(image, c, &pages, FLN_IMAGE_FILLING, to);
	}
	return news;
}

void fln_image_learn(struct fln_image *image, uint64_t block, const struct fln_mask *filled,
		     const struct fln_mask *zero)
{
	uint64_t waiters = 0, of_blocks = 0;

	fln_rcu_read_lock();
	fln_lock(&image->lock);
	if (fln_blockmap_uniform(&image->map, block) <= 0) {
		struct fln_chunk *c = fln_image_chunk(image, block);
		bool news = learn_pages(image, block, c, filled, FLN_IMAGE_FILLED, &waiters);

		news |= learn_pages(image, block, c, zero, FLN_IMAGE_ZERO, &waiters);
		/* Before the waiters look, another fill may claim another part of the huge page. */
		if (waiters && fln_image_is_huge(image))
			count_let_go(image);
		/*
		 * Collapse a block once only, as fln_image_chunk() relies on: not again after it was
		 * uniform and got holes.
		 */
		if (news)
			of_blocks = collapse(image, block, c);
		fln_image_note_change(image, block * FLN_BLOCK_PAGES);
		waiters |= fln_image_take_waiters(image);
	}
	fln_unlock(&image->lock);
	fln_rcu_read_unlock();
	fln_image_kick(image, waiters | of_blocks);
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
