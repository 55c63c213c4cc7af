/* SPDX-License-Identifier: MIT */
/*
 * Fillers: a pool of threads, a pool of fills, and queues that take turns.
 *
 * A queue is in line while it has fills.  A thread takes the first queue that may
 * begin one, takes its first fill, puts the queue back at the end if it has more,
 * and works on the fill with no lock held (I2).
 */
#include "sources/filler.h"
#include "sources/fill.h"

#include "base/clock.h"
#include "sources/image.h"
#include "sources/source.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>

#define YIELDS 64u /* before a wait for who reads events sleeps */

/* Populate and read-ahead take no more than this half: faults always find the other. */
static void put_free(struct fln_filler *filler, struct fln_fill *fill)
{
	uint32_t i = (uint32_t)(fill - filler->fills);
	struct fln_fill **list =
		i < filler->opts.nr_fills / 2 ? &filler->free : &filler->free_background;

	fill->next = *list;
	*list = fill;
}

int fln_filler_init(struct fln_filler *filler, const struct fln_filler_opts *opts)
{
	memset(filler, 0, sizeof(*filler));
	filler->opts = *opts;
	if (filler->opts.nr_waiters == 0)
		filler->opts.nr_waiters = FLN_MAX_WAITERS;
	FLN_ASSERT(filler->opts.nr_waiters <= FLN_MAX_WAITERS);
	FLN_ASSERT(opts->nr_threads > 0 && opts->nr_fills > 0);
	FLN_ASSERT(fln_is_pow2(opts->fill_pages) && opts->fill_pages <= FLN_BLOCK_PAGES);
	filler->fills = fln_zalloc(&filler->opts.alloc, opts->nr_fills * sizeof(*filler->fills),
				   FLN_NODE_ANY);
	filler->threads = fln_zalloc(&filler->opts.alloc,
				     opts->nr_threads * sizeof(*filler->threads), FLN_NODE_ANY);
	if (!filler->fills || !filler->threads) {
		fln_free(&filler->opts.alloc, filler->fills,
			 opts->nr_fills * sizeof(*filler->fills), FLN_NODE_ANY);
		fln_free(&filler->opts.alloc, filler->threads,
			 opts->nr_threads * sizeof(*filler->threads), FLN_NODE_ANY);
		return fln_fail(ENOMEM, "no memory for %u fills", opts->nr_fills);
	}
	for (uint32_t i = 0; i < opts->nr_fills; i++)
		put_free(filler, &filler->fills[i]);
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
	fln_free(&filler->opts.alloc, filler->fills, filler->opts.nr_fills * sizeof(*filler->fills),
		 FLN_NODE_ANY);
	fln_free(&filler->opts.alloc, filler->threads,
		 filler->opts.nr_threads * sizeof(*filler->threads), FLN_NODE_ANY);
}

void fln_filler_add_queue(struct fln_filler *filler, struct fln_fill_queue *queue,
			  const struct fln_source *source)
{
	memset(queue, 0, sizeof(*queue));
	queue->last = &queue->first;
	queue->demand_last = &queue->first;
	queue->source = source;
	fln_lock(&filler->lock);
	queue->next_of_filler = filler->queues;
	filler->queues = queue;
	filler->nr_sources += source != NULL;
	fln_unlock(&filler->lock);
}

void fln_filler_remove_queue(struct fln_filler *filler, struct fln_fill_queue *queue)
{
	struct fln_fill_queue **at = &filler->queues;

	fln_lock(&filler->lock);
	FLN_ASSERT(!queue->first && !queue->in_line && queue->nr_active == 0);
	while (*at != queue)
		at = &(*at)->next_of_filler;
	*at = queue->next_of_filler;
	filler->nr_sources -= queue->source != NULL;
	fln_unlock(&filler->lock);
}

/* Is the source of a queue being read, for this image or another? */
static bool source_is_busy(const struct fln_filler *filler, const struct fln_source *source)
{
	for (const struct fln_fill_queue *q = filler->queues; q; q = q->next_of_filler) {
		if (q->source == source && q->nr_active > 0)
			return true;
	}
	return false;
}

/*
 * May a fill of @queue begin now?  A source that never comes back keeps the
 * threads that are inside for good, so no image has more than half of them
 * beside others, and the last free one is for an image that has none (I7).
 */
static bool may_begin(const struct fln_filler *filler, const struct fln_fill_queue *queue)
{
	uint32_t nr = filler->opts.nr_threads, half = nr > 1 ? nr / 2 : 1;

	if (queue->source && queue->source->ops.concurrency == FLN_SOURCE_SERIAL &&
	    source_is_busy(filler, queue->source))
		return false;
	/* A fault finds a thread free whatever populate and read-ahead have asked for. */
	if (queue->demand_last == &queue->first && filler->nr_active > 0 &&
	    filler->nr_active + 2 >= nr)
		return false;
	if (queue->nr_active == 0)
		return true;
	if (filler->nr_sources > 1 && queue->nr_active >= half)
		return false;
	return filler->nr_active + 1 < nr;
}

/* The first queue in line that may begin a fill, or NULL. */
static struct fln_fill_queue *pick(const struct fln_filler *filler)
{
	struct fln_fill_queue *queue = filler->line;
	uint32_t nr = filler->opts.nr_threads, nr_active = filler->nr_active;

	/* Many images may have fills: no look at each while nothing of theirs may begin. */
	if (nr_active >= nr || (filler->nr_demand == 0 && nr_active > 0 && nr_active + 2 >= nr))
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

/* A thread for what may begin; it sees to it that there is one more if there is more. */
static void wake_one(struct fln_filler *filler) FLN_REQUIRES(filler->lock)
{
	if (pick(filler))
		(void)pthread_cond_signal(&filler->work);
}

/* filler->lock held */
static struct fln_fill *take(struct fln_filler *filler, struct fln_fill_queue *queue)
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

static void *filler_main(void *arg)
{
	struct fln_filler_thread *self = arg;
	struct fln_filler *filler = self->filler;
	struct fln_thread_before before;
	bool entered;

	fln_thread_begin(&before, FLN_THREAD_FILLER, (uint32_t)(self - filler->threads));
	entered = fln_rcu_enter();
	fln_lock(&filler->lock);
	while (!filler->stopping) {
		struct fln_fill_queue *queue = pick(filler);
		struct fln_fill *fill;

		if (!queue) {
			fln_cond_wait(&filler->work, &filler->lock);
			continue;
		}
		leave_line(filler, queue);
		fill = take(filler, queue);
		queue->nr_active++;
		filler->nr_active++;
		enter_line(filler, queue);
		wake_one(filler);
		fln_unlock(&filler->lock);

		fill->stoppable = true;
		atomic_store_explicit(&fill->begun_ns, fln_now_ns(), memory_order_relaxed);
		fln_image_run_fill(fill->image, fill, self->buffer);
		fln_filler_free(filler, fill);

		fln_lock(&filler->lock);
		FLN_ASSERT(queue->nr_active > 0);
		queue->nr_active--;
		filler->nr_active--;
		(void)pthread_cond_broadcast(&filler->idle);
	}
	filler->nr_running--;
	(void)pthread_cond_broadcast(&filler->idle);
	fln_unlock(&filler->lock);
	fln_rcu_leave(entered);
	fln_thread_end(&before);
	return NULL;
}

static int start_one(struct fln_filler *filler, struct fln_filler_thread *t)
{
	const struct fln_allocator *a = &filler->opts.alloc;
	int rc;

	t->filler = filler;
	t->buffer = a->alloc(a->ctx, FLN_BLOCK_BYTES, FLN_PAGE_BYTES, FLN_NODE_ANY);
	if (!t->buffer)
		return fln_fail(ENOMEM, "no memory for filler thread %u of %u and its buffer",
				(uint32_t)(t - filler->threads) + 1, filler->opts.nr_threads);
	/*
	 * Resident from now on: a copy out of it into the page cache never stops half-way.  The
	 * rest is for fills of huge pages, which are at work on all of it long before.
	 */
	memset(t->buffer, 0, fln_pages_to_bytes(filler->opts.fill_pages));
	fln_lock(&filler->lock);
	filler->nr_running++;
	fln_unlock(&filler->lock);
	rc = fln_thread_create(&t->thread, filler->opts.hooks, FLN_THREAD_FILLER,
			       (uint32_t)(t - filler->threads), filler_main, t);
	if (rc == 0)
		return 0;
	fln_lock(&filler->lock);
	filler->nr_running--;
	fln_unlock(&filler->lock);
	a->free(a->ctx, t->buffer, FLN_BLOCK_BYTES, FLN_NODE_ANY);
	return rc;
}

int fln_filler_start(struct fln_filler *filler)
{
	int rc = 0;

	if (filler->nr_started > 0)
		return fln_fail(EBUSY, "a source read has not come back since the engine was "
				       "stopped; mend the source and stop the engine again");
	filler->stopping = false;
	while (rc == 0 && filler->nr_started < filler->opts.nr_threads) {
		rc = start_one(filler, &filler->threads[filler->nr_started]);
		filler->nr_started += rc == 0;
	}
	/* Nothing fails on the way back that would take the sentence's place. */
	if (rc)
		(void)fln_filler_stop(filler, UINT64_MAX);
	return rc;
}

int fln_filler_stop(struct fln_filler *filler, uint64_t deadline_ns)
{
	bool in_time = true;

	fln_lock(&filler->lock);
	filler->stopping = true;
	(void)pthread_cond_broadcast(&filler->work);
	(void)pthread_cond_broadcast(&filler->stop);
	while (filler->nr_running > 0 && in_time)
		in_time = fln_cond_wait_until(&filler->idle, &filler->lock, deadline_ns);
	in_time = filler->nr_running == 0;
	fln_unlock(&filler->lock);
	if (!in_time)
		return fln_fail(ETIMEDOUT, "a source read has not come back; mend the source, "
					   "then call again");
	for (uint32_t i = 0; i < filler->nr_started; i++) {
		fln_thread_join(&filler->threads[i].thread);
		filler->opts.alloc.free(filler->opts.alloc.ctx, filler->threads[i].buffer,
					FLN_BLOCK_BYTES, FLN_NODE_ANY);
	}
	filler->nr_started = 0;
	return 0;
}

void fln_filler_pause(struct fln_filler *filler, uint64_t ns)
{
	uint64_t until = fln_now_ns() + ns;

	fln_lock(&filler->lock);
	while (!filler->stopping && fln_cond_wait_until(&filler->stop, &filler->lock, until))
		;
	fln_unlock(&filler->lock);
}

void fln_filler_closer_begin(struct fln_filler *filler)
{
	_Atomic uint64_t *seq = &filler->reading[FLN_MAX_WAITERS].seq;
	uint64_t before;

	/* Who publishes waits for this section: no handler that waits for contents runs in it. */
	fln_signals_hold();
	before = atomic_load(seq);
	while (before % 2 == 1 || !atomic_compare_exchange_weak(seq, &before, before + 1)) {
		(void)sched_yield();
		before = atomic_load(seq);
	}
}

void fln_filler_closer_end(struct fln_filler *filler)
{
	fln_filler_reading_end(filler, FLN_MAX_WAITERS);
	fln_signals_release();
}

/* Wait until a waiter that is reading events has acted upon them. */
static void wait_reader(const struct fln_reading *reading)
{
	uint64_t seq = atomic_load(&reading->seq);

	if (seq % 2 == 0)
		return;
	for (uint32_t round = 0; atomic_load(&reading->seq) == seq; round++) {
		if (round < YIELDS)
			(void)sched_yield();
		else
			fln_sleep_ns(50 * FLN_NS_PER_US);
	}
}

void fln_filler_wait_readers(struct fln_filler *filler)
{
	fln_lock_assert_none();
	/* Of those that there are: each is a cache line, and this is done for each publish. */
	for (uint32_t i = 0; i < filler->opts.nr_waiters; i++)
		wait_reader(&filler->reading[i]);
	wait_reader(&filler->reading[FLN_MAX_WAITERS]);
}

struct fln_fill *fln_filler_alloc(struct fln_filler *filler, uint32_t waiter, bool background)
{
	struct fln_fill **list, *fill;

	fln_lock(&filler->lock);
	list = background || !filler->free ? &filler->free_background : &filler->free;
	fill = *list;
	if (fill)
		*list = fill->next;
	else
		(void)atomic_fetch_or_explicit(&filler->starved, fln_waiter_bit(waiter),
					       memory_order_relaxed);
	fln_unlock(&filler->lock);
	return fill;
}

void fln_filler_free(struct fln_filler *filler, struct fln_fill *fill)
{
	uint64_t starved;

	fln_lock(&filler->lock);
	put_free(filler, fill);
	starved = atomic_exchange_explicit(&filler->starved, 0, memory_order_release);
	fln_unlock(&filler->lock);
	if (starved)
		filler->opts.kick(filler->opts.kick_ctx, starved);
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

bool fln_filler_drain(struct fln_filler *filler, struct fln_fill_queue *queue, uint64_t deadline_ns)
{
	bool in_time = true, drained;

	fln_lock(&filler->lock);
	while (queue->nr_active > 0 && in_time)
		in_time = fln_cond_wait_until(&filler->idle, &filler->lock, deadline_ns);
	drained = queue->nr_active == 0;
	fln_unlock(&filler->lock);
	return drained;
}
