/* SPDX-License-Identifier: MIT */
/*
 * The states of an image's pages, and the fills that move them.
 *
 * Contents come in by fills.  A fill claims a run of UNFILLED pages (FILLING),
 * writes them into the page cache and publishes them (FILLED), all by pieces.
 * fln_image_put() and fln_image_fill() make a fill on their own stack, faults
 * take one from the fillers' pool; from there on it is the same path.
 *
 * States move under image->lock, in fln_image_move() and nowhere else, and are read
 * without it.  Whoever wants to wait for a page registers under the same lock
 * under which the page would be published, so no wake-up is lost: either the
 * page is found published, or the publisher finds the waiter.
 *
 * fln_image_put() takes a page over from a fill that has not begun to write it:
 * its contents are here, and the source may hang, or fail.  What the source
 * delivers for the page later is dropped.  A fill that writes already goes first.
 *
 * A discard may come while a page is FILLING.  Before its fill writes it is taken
 * from it, and is ZERO at once, however long the source takes.  A write cannot be
 * called back, so then the page is marked as given up; its fill punches it out again
 * before it publishes it, as ZERO.  So does the fill of an attached image: it is the
 * owner who writes.  Nothing else can have touched it: nobody installs a page that is
 * not published.  That also holds for a discard whose event has
 * been read and not been acted upon yet: publishing waits for it (filler.h).
 * When several guests share the image, a discard by one is a discard for all.
 *
 * ZERO permits an install, and what is mapped then is what the cache has.  That may be
 * something: an adopted memfd comes with the bytes that were in it.  So no page goes from
 * UNFILLED or FAILED to ZERO at once.  Whoever makes it ZERO claims it as a fill does,
 * has the cache be empty there (fln_image_empty()), and publishes.
 */
#include "sources/image_state.h"
#include "sources/huge.h"

#include "base/error.h"
#include "base/plant.h"
#include "base/signals.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

_Static_assert(FLN_IMAGE_PLANE_FAILED < FLN_MAP_PLANES, "planes");

#define NO_PLANE UINT32_MAX
#define TO(state) (1u << (state))

/* Where a page may go from each state. */
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

/* Pages of a chunk that are in a state.  Exact only under image->lock. */
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

/* The one place where states of an image move.  All of @pages is in the state @from. */
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
	/* The new plane first: readers see the page in one state or the other, never in none. */
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
 * The chunk to change a block in.  There is always one: a block takes one to
 * begin with, becomes uniform at most once (fills only ever end), and takes one
 * more for discards after that; the pool has two per block.
 */
struct fln_chunk *fln_image_chunk(struct fln_image *image, uint64_t block) FLN_REQUIRES(image->lock)
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
	struct fln_mask filled = fln_image_in_state(c, FLN_IMAGE_FILLED);
	struct fln_mask zero = fln_image_in_state(c, FLN_IMAGE_ZERO);
	struct fln_mask done = fln_mask_or(&filled, &zero);
	struct fln_mask rest = fln_mask_andnot(&valid, &done);

	if (!fln_mask_empty(&rest))
		return;
	/* FILLED may stand for ZERO too: the page cache has a hole there, and that decides. */
	zero = fln_mask_and(&zero, &valid);
	(void)fln_blockmap_collapse(&image->map, block, c,
				    fln_mask_count(&zero) == fln_mask_count(&valid)
					    ? 1u << FLN_IMAGE_PLANE_ZERO
					    : 1u << FLN_IMAGE_PLANE_FILLED);
}

static uint32_t bucket_of(uint64_t page)
{
	return (uint32_t)(page / FLN_BLOCK_PAGES) % FLN_IMAGE_NR_BUCKETS;
}

/* The fill that a page which is FILLING belongs to, or NULL. */
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

/*
 * Claim the run of pages from @page on, within [.., end), that wait to be filled
 * (also those that failed, with @also_failed), for @fill.  False: there is none.
 */
bool fln_fill_begin(struct fln_image *image, struct fln_fill *fill, uint64_t page, uint64_t end,
		    bool also_failed) FLN_REQUIRES(image->lock)
{
	uint64_t block = page / FLN_BLOCK_PAGES, base = block * FLN_BLOCK_PAGES;
	struct fln_chunk *c = fln_image_chunk(image, block);
	struct fln_mask unfilled = fln_image_in_state(c, FLN_IMAGE_UNFILLED), failed = { { 0 } },
			open, run;
	uint32_t lo = (uint32_t)(page - base), hi;

	FLN_DEBUG_ASSERT(end > page && end <= base + FLN_BLOCK_PAGES);
	if (also_failed)
		failed = fln_image_in_state(c, FLN_IMAGE_FAILED);
	open = fln_mask_or(&unfilled, &failed);
	if (!fln_mask_test(&open, lo))
		return false;
	hi = fln_mask_next_clear(&open, lo);
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

int fln_image_punch(struct fln_image *image, uint64_t page, uint64_t nr_pages)
{
	if (fln_image_is_huge(image))
		return fln_huge_punch(image, page, nr_pages);
	if (fallocate(image->memfd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		      (off_t)fln_pages_to_bytes(page), (off_t)fln_pages_to_bytes(nr_pages)) == 0)
		return 0;
	/* Somebody has sealed an adopted memfd against writing since: our mapping is older. */
	if (errno == EPERM && !image->read_only)
		return fln_alias_zero(image, page, page + nr_pages);
	return fln_fail(errno, "image %s: punching %llu pages at page %llu: %s", image->name,
			(unsigned long long)nr_pages, (unsigned long long)page, strerror(errno));
}

int fln_image_empty(struct fln_image *image, uint64_t page, uint32_t nr_pages)
{
	if (fln_planted(FLN_BUG_HOLE_OVER_OLD))
		return 0;
	/* Nothing tells on hugetlbfs; a memfd of our own has nothing but what was written. */
	if (fln_image_is_huge(image))
		return image->adopted ? fln_image_punch(image, page, nr_pages) : 0;
	return fln_image_hole(image, page, nr_pages) == nr_pages
		       ? 0
		       : fln_image_punch(image, page, nr_pages);
}

void fln_image_punch_runs(struct fln_image *image, uint64_t page, const struct fln_mask *pages)
{
	uint32_t lo = 0, hi;

	for (; fln_mask_next_run(pages, &lo, &hi); lo = hi)
		(void)fln_image_punch(image, page + lo, hi - lo);
}

/* Pages [lo, hi) of a fill, as far as they are still its own. */
struct fln_mask fln_fill_owned(const struct fln_fill *fill, uint32_t lo, uint32_t hi)
{
	struct fln_mask range = fln_mask_range(lo, hi);

	return fln_mask_andnot(&range, &fill->gone);
}

/* Before waiters are kicked; release: who sees a count sees the states. */
static void note_change(struct fln_image *image, uint64_t page)
{
	_Atomic uint32_t *changes = image->filler->changes;

	(void)atomic_fetch_add_explicit(&changes[fln_image_slot(image, page)], 1,
					memory_order_release);
	(void)atomic_fetch_add_explicit(&changes[fln_image_slot(image, FLN_ANY_PAGE)], 1,
					memory_order_release);
}

/* Who waits is told, and no longer known: what he waits for may be somebody's fill by now. */
static void let_go(struct fln_image *image) FLN_REQUIRES(image->lock)
{
	(void)atomic_fetch_add_explicit(&image->nr_let_go, 1, memory_order_relaxed);
}

/* States have moved: who waits for what no fill covers, or listens from elsewhere. */
static uint64_t take_waiters(struct fln_image *image) FLN_REQUIRES(image->lock)
{
	uint64_t waiters = image->waiters, one = 1;

	if (waiters)
		let_go(image);
	image->waiters = 0;
	for (struct fln_listener *l = image->listeners; l; l = l->next) {
		if (!l->waits)
			continue;
		l->waits = false;
		(void)!write(l->event_fd, &one, sizeof(one));
	}
	return waiters;
}

static void kick(struct fln_image *image, uint64_t waiters)
{
	if (waiters)
		image->filler->opts.kick(image->filler->opts.kick_ctx, waiters);
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
	c = fln_image_chunk(image, block);
	fln_image_move(image, c, &live, FLN_IMAGE_FILLING, to);
	fln_image_move(image, c, &zero, FLN_IMAGE_FILLING, FLN_IMAGE_ZERO);
	collapse(image, block, c);
}

/*
 * Publish pages [lo, hi) of a fill in the state @to, those that were given up
 * meanwhile as ZERO, and kick who waits.
 */
void fln_fill_publish(struct fln_image *image, struct fln_fill *fill, uint32_t lo, uint32_t hi,
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
		range = fln_fill_owned(fill, lo, hi);
		dead = fln_mask_and(&fill->given_up, &range);
		fresh = fln_mask_andnot(&dead, &punched);
		if (fln_mask_empty(&fresh))
			break;
		/* Take back what was written after the guest had given the page up. */
		fln_unlock(&image->lock);
		fln_image_punch_runs(image, fill->page, &fresh);
		punched = fln_mask_or(&punched, &fresh);
		fln_lock(&image->lock);
	}
	move_run(image, fill, &range, &dead, to);
	note_change(image, fill->page);
	fill->gone = fln_mask_or(&fill->gone, &range);
	fill->writing = false;
	(void)pthread_cond_broadcast(&image->written);
	waiters = fill->waiters | take_waiters(image);
	/* Another fill may have a page that is not filled before they look, or another part. */
	if (fill->waiters &&
	    (to == FLN_IMAGE_UNFILLED || to == FLN_IMAGE_FAILED || fln_image_is_huge(image)))
		let_go(image);
	fln_unlock(&image->lock);
	fln_rcu_read_unlock();
	kick(image, waiters);
}

/*
 * Pages of a block that are FILLING were given up.  What no fill writes yet is taken from its
 * fill, and returned; into *waiters those that wait for it.  What is being written is marked:
 * its fill makes it ZERO.
 */
static struct fln_mask take_given_up(struct fln_image *image, uint64_t block,
				     const struct fln_mask *filling, uint64_t *waiters)
	FLN_REQUIRES(image->lock)
{
	struct fln_mask taken = { { 0 } };

	for (uint32_t i = fln_mask_next_set(filling, 0); i < FLN_BLOCK_PAGES;
	     i = fln_mask_next_set(filling, i + 1)) {
		uint64_t page = block * FLN_BLOCK_PAGES + i;
		struct fln_fill *fill = fln_fill_find(image, page);

		FLN_ASSERT(fill);
		/* Of an attached image the owner writes, at a time that nobody here knows. */
		if (fill->writing || image->link || fln_planted(FLN_BUG_DISCARD_WAITS)) {
			fln_mask_set(&fill->given_up, (uint32_t)(page - fill->page));
			continue;
		}
		fln_mask_set(&fill->gone, (uint32_t)(page - fill->page));
		fln_mask_set(&taken, i);
		*waiters |= fill->waiters;
	}
	return taken;
}

/*
 * The pages of [lo, hi) of a block that are UNFILLED or FAILED, and @taken, become @fill's.
 * False: none.
 */
static bool claim_given_up(struct fln_image *image, struct fln_chunk *c, struct fln_fill *fill,
			   uint64_t block, uint32_t lo, uint32_t hi, const struct fln_mask *taken)
	FLN_REQUIRES(image->lock)
{
	struct fln_mask range = fln_mask_range(lo, hi);
	struct fln_mask unfilled = fln_image_in_state(c, FLN_IMAGE_UNFILLED);
	struct fln_mask failed = fln_image_in_state(c, FLN_IMAGE_FAILED), ours;

	unfilled = fln_mask_and(&unfilled, &range);
	failed = fln_mask_and(&failed, &range);
	ours = fln_mask_or(&unfilled, &failed);
	ours = fln_mask_or(&ours, taken);
	if (fln_mask_empty(&ours))
		return false;
	fln_image_move(image, c, &unfilled, FLN_IMAGE_UNFILLED, FLN_IMAGE_FILLING);
	fln_image_move(image, c, &failed, FLN_IMAGE_FAILED, FLN_IMAGE_FILLING);
	fln_fill_enter(image, fill, block * FLN_BLOCK_PAGES + lo, hi - lo);
	for (uint32_t i = lo; i < hi; i++) {
		if (!fln_mask_test(&ours, i))
			fln_mask_set(&fill->gone, i - lo);
	}
	/* Nobody takes it over: what is pushed would be punched out again. */
	fill->writing = true;
	return true;
}

/*
 * Within one block: what is FILLED becomes ZERO with @filled_too, and what is not filled
 * becomes @fill's.  Returns whether that has any.
 */
static bool give_up_block(struct fln_image *image, struct fln_fill *fill, uint64_t block,
			  uint32_t lo, uint32_t hi, bool filled_too) FLN_REQUIRES(image->lock)
{
	int uniform = fln_blockmap_uniform(&image->map, block);
	struct fln_mask range = fln_mask_range(lo, hi), pages;
	uint64_t waiters = 0;
	struct fln_chunk *c;

	if (uniform == 1 << FLN_IMAGE_PLANE_ZERO ||
	    (uniform == 1 << FLN_IMAGE_PLANE_FILLED && !filled_too))
		return false;
	c = fln_image_chunk(image, block);
	if (filled_too) {
		pages = fln_image_in_state(c, FLN_IMAGE_FILLED);
		pages = fln_mask_and(&pages, &range);
		fln_image_move(image, c, &pages, FLN_IMAGE_FILLED, FLN_IMAGE_ZERO);
	}
	pages = fln_image_in_state(c, FLN_IMAGE_FILLING);
	pages = fln_mask_and(&pages, &range);
	pages = take_given_up(image, block, &pages, &waiters);
	if (!claim_given_up(image, c, fill, block, lo, hi, &pages))
		return false;
	fill->waiters = waiters;
	return true;
}

/*
 * The pages of a fill of give_up_block() become ZERO.  An adopted memfd may have had
 * something there: it goes first, for from then on they may be mapped, and written.
 */
static void publish_given_up(struct fln_image *image, struct fln_fill *fill)
{
	struct fln_mask owned;
	uint32_t at = 0, end;
	int rc = 0;

	fln_lock(&image->lock);
	owned = fln_fill_owned(fill, 0, fill->nr_pages);
	fln_unlock(&image->lock);
	for (; rc == 0 && fln_mask_next_run(&owned, &at, &end); at = end)
		rc = fln_image_empty(image, fill->page + at, end - at);
	fln_fill_publish(image, fill, 0, fill->nr_pages, rc ? FLN_IMAGE_FAILED : FLN_IMAGE_ZERO);
	fln_fill_end(image, fill);
}

void fln_image_drop(struct fln_image *image, uint64_t page, uint64_t nr_pages, bool filled_too)
{
	uint64_t first = page, end = page + nr_pages;

	while (page < end) {
		uint64_t block = page / FLN_BLOCK_PAGES, base = block * FLN_BLOCK_PAGES;
		uint64_t stop = base + FLN_BLOCK_PAGES < end ? base + FLN_BLOCK_PAGES : end;
		struct fln_fill fill;
		uint64_t waiters;
		bool claimed;

		/* No handler of this thread waits for what is FILLING here. */
		fln_signals_hold();
		fln_rcu_read_lock();
		fln_lock(&image->lock);
		claimed = give_up_block(image, &fill, block, (uint32_t)(page - base),
					(uint32_t)(stop - base), filled_too);
		note_change(image, page);
		waiters = claimed ? 0 : take_waiters(image);
		fln_unlock(&image->lock);
		fln_rcu_read_unlock();
		if (claimed)
			publish_given_up(image, &fill);
		kick(image, waiters);
		fln_signals_release();
		page = stop;
	}
	(void)fln_image_lift(image, first, nr_pages);
}

void fln_image_note_poison(struct fln_image *image, uint64_t page)
{
	uint64_t lo = atomic_load(&image->poison_lo), hi = atomic_load(&image->poison_hi);

	while (page < lo && !atomic_compare_exchange_weak(&image->poison_lo, &lo, page))
		;
	while (page >= hi && !atomic_compare_exchange_weak(&image->poison_hi, &hi, page + 1))
		;
}

bool fln_image_poison(const struct fln_image *image, uint64_t *lo, uint64_t *hi)
{
	*hi = atomic_load(&image->poison_hi);
	*lo = atomic_load(&image->poison_lo);
	return *hi > *lo;
}

bool fln_image_lift(struct fln_image *image, uint64_t page, uint64_t nr_pages)
{
	struct fln_filler *filler = image->filler;
	uint32_t nr = filler->opts.nr_waiters;
	uint64_t lo, hi;

	/* Who poisons notes it and then looks at the states; here it is the other way round. */
	atomic_thread_fence(memory_order_seq_cst);
	if (!fln_image_poison(image, &lo, &hi) || page >= hi || page + nr_pages <= lo)
		return false;
	atomic_fetch_add(&filler->nr_lifts, 1);
	kick(image, nr > 0 && nr < FLN_MAX_WAITERS ? fln_waiter_bit(nr) - 1 : UINT64_MAX);
	return true;
}

void fln_image_give_up(struct fln_image *image, uint64_t page, uint64_t nr_pages)
{
	if (fln_planted(FLN_BUG_DISCARD_REFILLED))
		return;
	fln_image_drop(image, page, nr_pages, false);
}

/*
 * Pages of one block that are FILLED or ZERO elsewhere; adds who waits for them to
 * *waiters.  Return: whether that was news of any.
 */
static bool learn_pages(struct fln_image *image, uint64_t block, struct fln_chunk *c,
			const struct fln_mask *known, enum fln_image_page to, uint64_t *waiters)
	FLN_REQUIRES(image->lock)
{
	static const enum fln_image_page open[] = { FLN_IMAGE_UNFILLED, FLN_IMAGE_FAILED };
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
		pages = fln_image_in_state(c, open[s]);
		pages = fln_mask_and(&pages, known);
		news |= !fln_mask_empty(&pages);
		fln_image_move(image, c, &pages, open[s], FLN_IMAGE_FILLING);
		fln_image_move(image, c, &pages, FLN_IMAGE_FILLING, to);
	}
	return news;
}

void fln_image_learn(struct fln_image *image, uint64_t block, const struct fln_mask *filled,
		     const struct fln_mask *zero)
{
	uint64_t waiters = 0;

	fln_rcu_read_lock();
	fln_lock(&image->lock);
	if (fln_blockmap_uniform(&image->map, block) <= 0) {
		struct fln_chunk *c = fln_image_chunk(image, block);
		bool news = learn_pages(image, block, c, filled, FLN_IMAGE_FILLED, &waiters);

		news |= learn_pages(image, block, c, zero, FLN_IMAGE_ZERO, &waiters);
		/* Of a huge page another part may be on its way before they look. */
		if (waiters && fln_image_is_huge(image))
			let_go(image);
		/* Once only (fln_image_chunk()): not of a block that was whole, and has holes since. */
		if (news)
			collapse(image, block, c);
		note_change(image, block * FLN_BLOCK_PAGES);
		waiters |= take_waiters(image);
	}
	fln_unlock(&image->lock);
	fln_rcu_read_unlock();
	kick(image, waiters);
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

/*
 * A huge page may be installed when all of it may, whichever part is asked about; the
 * cache has its zeros if it has any of it.
 */
static void ready_whole(const struct fln_image *image, uint64_t page, uint32_t nr_pages,
			struct fln_mask *filled, struct fln_mask *zero)
{
	uint64_t base = fln_align_down(page, FLN_BLOCK_PAGES);
	struct fln_mask done, none = { { 0 } };

	FLN_ASSERT(page + nr_pages <= base + FLN_BLOCK_PAGES);
	if (nr_pages < FLN_BLOCK_PAGES) {
		*filled = fln_blockmap_load_span(&image->map, FLN_IMAGE_PLANE_FILLED, base,
						 FLN_BLOCK_PAGES);
		*zero = fln_blockmap_load_span(&image->map, FLN_IMAGE_PLANE_ZERO, base,
					       FLN_BLOCK_PAGES);
		*filled = fln_mask_andnot(filled, zero);
	}
	done = fln_mask_or(filled, zero);
	if (fln_mask_count(&done) < FLN_BLOCK_PAGES) {
		*filled = none;
		*zero = none;
	} else if (!fln_mask_empty(filled)) {
		*filled = fln_mask_range(0, nr_pages);
		*zero = none;
	} else {
		*zero = fln_mask_range(0, nr_pages);
	}
}

/* For two bugs: what the cache has, or what has failed, taken for filled. */
static struct fln_mask plant_cached(const struct fln_image *image, uint64_t page, uint32_t nr_pages,
				    const struct fln_mask *filled)
{
	struct fln_mask m = *filled, failed;
	unsigned char vec[FLN_BLOCK_PAGES];

	failed = fln_blockmap_load_span(&image->map, FLN_IMAGE_PLANE_FAILED, page, nr_pages);
	if (fln_planted(FLN_BUG_POISON_OVERWRITTEN))
		return fln_mask_or(&m, &failed);
	if (mincore(image->alias + fln_pages_to_bytes(page), fln_pages_to_bytes(nr_pages), vec) !=
	    0)
		return m;
	for (uint32_t i = 0; i < nr_pages; i++) {
		if (vec[i] & 1)
			fln_mask_set(&m, i);
	}
	return m;
}

void fln_image_ready(const struct fln_image *image, uint64_t page, uint32_t nr_pages,
		     struct fln_mask *filled, struct fln_mask *zero)
{
	*filled = fln_blockmap_load_span(&image->map, FLN_IMAGE_PLANE_FILLED, page, nr_pages);
	*zero = fln_blockmap_load_span(&image->map, FLN_IMAGE_PLANE_ZERO, page, nr_pages);
	/* A page may move from FILLED to ZERO between the two looks; it is in one at least. */
	*filled = fln_mask_andnot(filled, zero);
	if (fln_planted(FLN_BUG_CONTINUE_UNFILLED) || fln_planted(FLN_BUG_POISON_OVERWRITTEN))
		*filled = plant_cached(image, page, nr_pages, filled);
	if (fln_image_is_huge(image))
		ready_whole(image, page, nr_pages, filled, zero);
}

uint64_t fln_image_due_page(const struct fln_image *image, uint64_t page)
{
	uint64_t block = page / FLN_BLOCK_PAGES;
	struct fln_mask done, zero, failed;
	uint32_t at;

	if (!fln_image_is_huge(image))
		return page;
	failed = fln_blockmap_load(&image->map, FLN_IMAGE_PLANE_FAILED, block);
	at = fln_mask_next_set(&failed, 0);
	if (at == FLN_BLOCK_PAGES) {
		done = fln_blockmap_load(&image->map, FLN_IMAGE_PLANE_FILLED, block);
		zero = fln_blockmap_load(&image->map, FLN_IMAGE_PLANE_ZERO, block);
		done = fln_mask_or(&done, &zero);
		at = fln_mask_next_clear(&done, 0);
	}
	return at < FLN_BLOCK_PAGES ? block * FLN_BLOCK_PAGES + at : page;
}

enum fln_image_page fln_image_due(const struct fln_image *image, uint64_t page)
{
	bool entered = fln_rcu_enter();

	fln_rcu_read_lock();
	page = fln_image_due_page(image, page);
	fln_rcu_read_unlock();
	fln_rcu_leave(entered);
	return fln_image_state(image, page);
}

void fln_image_known(const struct fln_image *image, uint64_t page, uint32_t nr_pages,
		     struct fln_mask *done, struct fln_mask *failed)
{
	struct fln_mask zero;

	if (fln_image_is_huge(image)) {
		/* One part that has failed keeps all of a huge page away. */
		*failed = fln_blockmap_load_span(&image->map, FLN_IMAGE_PLANE_FAILED,
						 fln_align_down(page, FLN_BLOCK_PAGES),
						 FLN_BLOCK_PAGES);
		if (!fln_mask_empty(failed))
			*failed = fln_mask_range(0, nr_pages);
	} else {
		*failed =
			fln_blockmap_load_span(&image->map, FLN_IMAGE_PLANE_FAILED, page, nr_pages);
	}
	fln_image_ready(image, page, nr_pages, done, &zero);
	*done = fln_mask_or(done, &zero);
}

enum fln_waits_for fln_image_waits(struct fln_image *image, uint64_t page, uint64_t *begun_ns)
{
	enum fln_waits_for waits = FLN_WAITS_FILL;
	const struct fln_fill *fill;

	*begun_ns = 0;
	if (image->link)
		return FLN_WAITS_OWNER;
	if (!image->source)
		return FLN_WAITS_PUT;
	page = fln_image_due_page(image, page);
	fln_lock(&image->lock);
	fill = fln_fill_find(image, page);
	if (fill) {
		*begun_ns = atomic_load_explicit(&fill->begun_ns, memory_order_relaxed);
		waits = *begun_ns ? FLN_WAITS_SOURCE : FLN_WAITS_FILLER;
	}
	fln_unlock(&image->lock);
	return waits;
}
