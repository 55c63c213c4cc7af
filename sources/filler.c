/* SPDX-License-Identifier: MIT */
/*
 * Fills: their pool, their queues, and which of them the filler threads may begin.
 *
 * A queue is in line while it has fills.  A thread (filler_threads.c) takes the first queue that
 * may begin one and removes its first fill; the queue moves to the end of the line if it has more.
 */
#include "sources/filler.h"

#include "base/clock.h"
#include "base/plant.h"
#include "sources/source.h"

#include <errno.h>

/* Put a fill on the free list of its half of a pool or reserve; the first half is for faults only. */
static void put_free(struct fln_fill *fill, const struct fln_fill *fills, uint32_t nr,
		     struct fln_fill **free, struct fln_fill **free_background)
{
	struct fln_fill **list = (uint32_t)(fill - fills) < nr / 2 ? free : free_background;

	fill->next = *list;
	*list = fill;
}

static struct fln_fill *take_free(struct fln_fill **list)
{
	struct fln_fill *fill = *list;

	if (fill)
		*list = fill->next;
	return fill;
}

static void free_tables(struct fln_filler *filler)
{
	const struct fln_filler_opts *o = &filler->opts;

	fln_free(&o->alloc, filler->fills, o->nr_fills * sizeof(*filler->fills), FLN_NODE_ANY);
	fln_free(&o->alloc, filler->threads, o->nr_threads * sizeof(*filler->threads),
		 FLN_NODE_ANY);
	fln_free(&o->alloc, filler->changed, o->nr_waiters * sizeof(*filler->changed),
		 FLN_NODE_ANY);
}

int fln_filler_init(struct fln_filler *filler, const struct fln_filler_opts *opts)
{
	memset(filler, 0, sizeof(*filler));
	filler->opts = *opts;
	if (filler->opts.nr_waiters == 0)
		filler->opts.nr_waiters = FLN_MAX_WAITERS;
	FLN_ASSERT(filler->opts.nr_waiters <= FLN_MAX_WAITERS);
	FLN_ASSERT(opts->nr_threads > 0 && opts->nr_fills > 0 && opts->run);
	FLN_ASSERT(fln_is_pow2(opts->fill_pages) && opts->fill_pages <= FLN_BLOCK_PAGES);
	filler->fills = fln_zalloc(&filler->opts.alloc, opts->nr_fills * sizeof(*filler->fills),
				   FLN_NODE_ANY);
	filler->threads = fln_zalloc(&filler->opts.alloc,
				     opts->nr_threads * sizeof(*filler->threads), FLN_NODE_ANY);
	filler->changed =
		fln_zalloc(&filler->opts.alloc, filler->opts.nr_waiters * sizeof(*filler->changed),
			   FLN_NODE_ANY);
	if (!filler->fills || !filler->threads || !filler->changed) {
		free_tables(filler);
		return fln_fail(ENOMEM, "no memory for %u fills", opts->nr_fills);
	}
	for (uint32_t i = 0; i < opts->nr_fills; i++)
		put_free(&filler->fills[i], filler->fills, opts->nr_fills, &filler->free,
			 &filler->free_background);
	filler->nr_free = opts->nr_fills / 2;
	filler->nr_free_background = opts->nr_fills - filler->nr_free;
	filler->line_last = &filler->line;
	fln_lock_init(&filler->lock, FLN_RANK_FILLER);
	fln_cond_init(&filler->work);
	fln_cond_init(&filler->stop);
	fln_cond_init(&filler->idle);
	return 0;
}

void fln_filler_deinit(struct fln_filler *filler)
{
	FLN_ASSERT(filler->nr_running == 0);
	(void)pthread_cond_destroy(&filler->work);
	(void)pthread_cond_destroy(&filler->stop);
	(void)pthread_cond_destroy(&filler->idle);
	fln_lock_deinit(&filler->lock);
	free_tables(filler);
}

/* The lead queue of a source, or another of its queues if @except leads; NULL: none. */
static struct fln_fill_queue *find_lead(const struct fln_filler *filler,
					const struct fln_source *source,
					const struct fln_fill_queue *except)
	FLN_REQUIRES(filler->lock)
{
	struct fln_fill_queue *q = filler->queues;

	while (q && (q->source != source || q == except))
		q = q->next_of_filler;
	return q && q->lead != except ? q->lead : q;
}

/* Account for a fill of a queue that begins or ends. */
static void count_active(struct fln_filler *filler, struct fln_fill_queue *queue, bool begins)
	FLN_REQUIRES(filler->lock)
{
	uint32_t by = begins ? 1 : UINT32_MAX, before = queue->lead->nr_of_source;

	FLN_ASSERT(begins || queue->nr_active > 0);
	queue->nr_active += by;
	filler->nr_active += by;
	queue->lead->nr_of_source += by;
	if (before + by == 0)
		filler->nr_busy_sources--;
	else if (before == 0)
		filler->nr_busy_sources++;
}

int fln_filler_add_queue(struct fln_filler *filler, struct fln_fill_queue *queue,
			 const struct fln_source *source)
{
	uint32_t nr_own = source ? filler->opts.nr_own_fills : 0;
	struct fln_fill_queue *lead;

	memset(queue, 0, sizeof(*queue));
	queue->last = &queue->first;
	queue->demand_last = &queue->first;
	queue->source = source;
	if (nr_own > 0) {
		queue->own_fills = fln_zalloc(&filler->opts.alloc,
					      nr_own * sizeof(*queue->own_fills), FLN_NODE_ANY);
		if (!queue->own_fills)
			return fln_fail(ENOMEM, "no memory for an image's %u fills", nr_own);
	}
	for (uint32_t i = 0; i < nr_own; i++)
		put_free(&queue->own_fills[i], queue->own_fills, nr_own, &queue->own,
			 &queue->own_background);
	fln_lock(&filler->lock);
	filler->nr_images += source != NULL;
	lead = source ? find_lead(filler, source, NULL) : NULL;
	filler->nr_sources += source && !lead;
	queue->lead = lead ? lead : queue;
	queue->next_of_filler = filler->queues;
	filler->queues = queue;
	fln_unlock(&filler->lock);
	return 0;
}

void fln_filler_remove_queue(struct fln_filler *filler, struct fln_fill_queue *queue)
{
	struct fln_fill_queue **at = &filler->queues, *lead;

	fln_lock(&filler->lock);
	FLN_ASSERT(!queue->first && !queue->in_line && queue->nr_active == 0);
	FLN_ASSERT(queue->nr_pool == 0);
	while (*at != queue)
		at = &(*at)->next_of_filler;
	*at = queue->next_of_filler;
	filler->nr_images -= queue->source != NULL;
	lead = queue->source ? find_lead(filler, queue->source, queue) : NULL;
	filler->nr_sources -= queue->source && !lead;
	if (lead && queue->lead == queue) {
		lead->nr_of_source = queue->nr_of_source;
		for (struct fln_fill_queue *q = filler->queues; q; q = q->next_of_filler)
			q->lead = q->lead == queue ? lead : q->lead;
	}
	fln_unlock(&filler->lock);
	fln_free(&filler->opts.alloc, queue->own_fills,
		 filler->opts.nr_own_fills * sizeof(*queue->own_fills), FLN_NODE_ANY);
}

/* Have all busy threads waited for their sources for FLN_FILLER_STUCK_NS? */
static bool all_are_stuck(const struct fln_filler *filler, uint64_t now_ns)
{
	for (uint32_t i = 0; i < filler->nr_started; i++) {
		uint64_t begun_ns = filler->threads[i].begun_ns;

		if (begun_ns && now_ns - begun_ns < FLN_FILLER_STUCK_NS)
			return false;
	}
	return true;
}

/*
 * May a fill of @queue begin now?  A source that never returns occupies the
 * threads inside it forever.  So if there are several sources, none may occupy more
 * than half of the threads, and the last free thread is for a source that occupies
 * none (I7).
 */
static bool may_begin(const struct fln_filler *filler, const struct fln_fill_queue *queue)
{
	uint32_t nr = filler->opts.nr_threads, half = nr > 1 ? nr / 2 : 1;
	uint32_t nr_of_source = queue->lead->nr_of_source;
	bool background = queue->demand_last == &queue->first;

	if (fln_planted(FLN_BUG_NO_SHARE))
		return true;
	if (queue->source && queue->source->ops.concurrency == FLN_SOURCE_SERIAL &&
	    nr_of_source > 0)
		return false;
	/*
	 * Background fills leave a thread free for faults; unless stuck sources occupy all others,
	 * which must not block background fills of healthy sources.
	 */
	if (background && filler->nr_active > 0 && filler->nr_active + 2 >= nr)
		return nr_of_source == 0 &&
		       (filler->nr_active + 1 < nr || all_are_stuck(filler, fln_now_ns()));
	if (nr_of_source == 0)
		return true;
	if (filler->nr_sources > 1 && nr_of_source >= half)
		return false;
	return filler->nr_active + 1 < nr;
}

/* A quick check, independent of the number of images, that no queue may begin a fill. */
static bool none_may_begin(const struct fln_filler *filler)
{
	uint32_t nr = filler->opts.nr_threads, nr_active = filler->nr_active;

	if (fln_planted(FLN_BUG_NO_SHARE))
		return false;
	if (nr_active >= nr)
		return true;
	if (filler->nr_demand > 0 || nr_active == 0 || nr_active + 2 < nr)
		return false;
	/* Only background fills are queued: see may_begin(). */
	return filler->nr_busy_sources == filler->nr_sources ||
	       (nr_active + 1 >= nr && !all_are_stuck(filler, fln_now_ns()));
}

struct fln_fill_queue *fln_filler_pick(const struct fln_filler *filler)
{
	struct fln_fill_queue *queue = filler->line;

	if (!queue || none_may_begin(filler))
		return NULL;
	while (queue && !may_begin(filler, queue))
		queue = queue->next;
	return queue;
}

static void enter_line(struct fln_filler *filler, struct fln_fill_queue *queue)
	FLN_REQUIRES(filler->lock)
{
	if (queue->in_line || !queue->first)
		return;
	queue->in_line = true;
	queue->next = NULL;
	*filler->line_last = queue;
	filler->line_last = &queue->next;
}

static void leave_line(struct fln_filler *filler, struct fln_fill_queue *queue)
	FLN_REQUIRES(filler->lock)
{
	struct fln_fill_queue **at = &filler->line;

	if (!queue->in_line)
		return;
	while (*at != queue)
		at = &(*at)->next;
	*at = queue->next;
	if (!*at)
		filler->line_last = at;
	queue->in_line = false;
}

bool fln_filler_must_watch(const struct fln_filler *filler)
{
	return filler->line && filler->nr_active + 1 == filler->opts.nr_threads;
}

/*
 * Wake a thread if a fill may begin.  That thread wakes the next one, if more may.  If none may
 * begin, wake the last idle thread to watch for stuck ones, which no event reports.
 */
static void wake_one(struct fln_filler *filler) FLN_REQUIRES(filler->lock)
{
	if (fln_filler_pick(filler) || (fln_filler_must_watch(filler) && !filler->is_watched))
		(void)pthread_cond_signal(&filler->work);
}

/* Remove the first fill of a queue.  filler->lock held. */
static struct fln_fill *dequeue(struct fln_filler *filler, struct fln_fill_queue *queue)
{
	struct fln_fill *fill = queue->first;

	FLN_ASSERT(fill);
	filler->nr_demand -= !atomic_load_explicit(&fill->background, memory_order_relaxed);
	queue->first = fill->next;
	if (queue->last == &fill->next)
		queue->last = &queue->first;
	if (queue->demand_last == &fill->next)
		queue->demand_last = &queue->first;
	fill->next = NULL;
	return fill;
}

struct fln_fill *fln_filler_begin(struct fln_filler *filler, struct fln_fill_queue *queue)
{
	struct fln_fill *fill;

	leave_line(filler, queue);
	fill = dequeue(filler, queue);
	count_active(filler, queue, true);
	enter_line(filler, queue);
	wake_one(filler);
	return fill;
}

void fln_filler_end(struct fln_filler *filler, struct fln_fill_queue *queue)
{
	count_active(filler, queue, false);
	(void)pthread_cond_broadcast(&filler->idle);
}

/* Take a fill from the pool, unless @queue would then use more than it leaves free. */
static struct fln_fill *take_from_pool(struct fln_filler *filler, struct fln_fill_queue *queue,
				       bool for_fault)
{
	uint32_t left = filler->nr_free_background + (for_fault ? filler->nr_free : 0);
	struct fln_fill *fill = NULL;

	if (filler->nr_images > 1 && queue->nr_pool >= left && !fln_planted(FLN_BUG_NO_SHARE))
		return NULL;
	if (for_fault && filler->free) {
		fill = take_free(&filler->free);
		filler->nr_free--;
	} else if (filler->free_background) {
		fill = take_free(&filler->free_background);
		filler->nr_free_background--;
	}
	queue->nr_pool += fill != NULL;
	return fill;
}

struct fln_fill *fln_filler_alloc(struct fln_filler *filler, struct fln_fill_queue *queue,
				  uint32_t waiter, enum fln_fill_use use)
{
	bool for_fault = use == FLN_FILL_FAULT, own = !fln_planted(FLN_BUG_NO_SHARE);
	struct fln_fill *fill = NULL;

	fln_lock(&filler->lock);
	if (for_fault && own)
		fill = take_free(&queue->own);
	if (!fill)
		fill = take_from_pool(filler, queue, for_fault);
	if (!fill && own)
		fill = take_free(&queue->own_background);
	if (!fill) {
		(void)atomic_fetch_or_explicit(&filler->starved, fln_waiter_bit(waiter),
					       memory_order_relaxed);
		queue->starved |= fln_waiter_bit(waiter);
	}
	fln_unlock(&filler->lock);
	return fill;
}

static bool is_of_pool(const struct fln_filler *filler, const struct fln_fill *fill)
{
	return (uintptr_t)fill >= (uintptr_t)filler->fills &&
	       (uintptr_t)fill < (uintptr_t)(filler->fills + filler->opts.nr_fills);
}

void fln_filler_free(struct fln_filler *filler, struct fln_fill_queue *queue, struct fln_fill *fill)
{
	uint64_t own, others = 0;

	fln_lock(&filler->lock);
	if (is_of_pool(filler, fill)) {
		FLN_ASSERT(queue->nr_pool > 0);
		queue->nr_pool--;
		put_free(fill, filler->fills, filler->opts.nr_fills, &filler->free,
			 &filler->free_background);
		if ((uint32_t)(fill - filler->fills) < filler->opts.nr_fills / 2)
			filler->nr_free++;
		else
			filler->nr_free_background++;
		others = atomic_exchange_explicit(&filler->starved, 0, memory_order_release);
	} else {
		put_free(fill, queue->own_fills, filler->opts.nr_own_fills, &queue->own,
			 &queue->own_background);
	}
	own = queue->starved;
	queue->starved = 0;
	fln_unlock(&filler->lock);
	if (own)
		fln_filler_tell(filler, own, FLN_CHANGE_FILLS, queue->set);
	if (others & ~own)
		filler->opts.kick(filler->opts.kick_ctx, others & ~own);
}

void fln_filler_tell(struct fln_filler *filler, uint64_t waiters, enum fln_change what,
		     uint32_t set)
{
	uint32_t nr = filler->opts.nr_waiters;
	uint64_t there = nr < FLN_MAX_WAITERS ? fln_waiter_bit(nr) - 1 : UINT64_MAX;

	for (uint64_t w = waiters & there; w; w &= w - 1)
		fln_changed_set(&filler->changed[__builtin_ctzll(w)], what, set);
	filler->opts.kick(filler->opts.kick_ctx, waiters);
}

static void enqueue(struct fln_filler *filler, struct fln_fill_queue *queue, struct fln_fill *fill)
{
	bool background = atomic_load_explicit(&fill->background, memory_order_relaxed);
	struct fln_fill **at = background ? queue->last : queue->demand_last;

	fill->next = *at;
	*at = fill;
	if (queue->last == at)
		queue->last = &fill->next;
	if (background)
		return;
	queue->demand_last = &fill->next;
	filler->nr_demand++;
}

void fln_filler_submit(struct fln_filler *filler, struct fln_fill_queue *queue,
		       struct fln_fill *fill)
{
	fln_lock(&filler->lock);
	enqueue(filler, queue, fill);
	enter_line(filler, queue);
	wake_one(filler);
	fln_unlock(&filler->lock);
}

void fln_filler_promote(struct fln_filler *filler, struct fln_fill_queue *queue, uint64_t page)
{
	struct fln_fill **at, *fill;

	fln_lock(&filler->lock);
	at = queue->demand_last;
	while (*at && (page < (*at)->page || page - (*at)->page >= (*at)->nr_pages))
		at = &(*at)->next;
	fill = *at;
	if (fill) {
		*at = fill->next;
		if (queue->last == &fill->next)
			queue->last = at;
		atomic_store_explicit(&fill->background, false, memory_order_relaxed);
		enqueue(filler, queue, fill);
		wake_one(filler);
	}
	fln_unlock(&filler->lock);
}

struct fln_fill *fln_filler_withdraw(struct fln_filler *filler, struct fln_fill_queue *queue)
{
	struct fln_fill *fills;

	fln_lock(&filler->lock);
	leave_line(filler, queue);
	fills = queue->first;
	for (const struct fln_fill *f = fills; f; f = f->next)
		filler->nr_demand -= !atomic_load_explicit(&f->background, memory_order_relaxed);
	queue->first = NULL;
	queue->last = &queue->first;
	queue->demand_last = &queue->first;
	fln_unlock(&filler->lock);
	return fills;
}

bool fln_filler_drain(struct fln_filler *filler, struct fln_fill_queue *queue, uint64_t limit_ns)
{
	unsigned long long left = limit_ns;
	bool in_time = true, drained;

	fln_lock(&filler->lock);
	while (queue->nr_active > 0 && in_time)
		in_time = fln_cond_wait_part(&filler->idle, &filler->lock, &left);
	drained = queue->nr_active == 0;
	fln_unlock(&filler->lock);
	return drained;
}
