/* SPDX-License-Identifier: MIT */
/*
 * The filler threads, which read sources: start, main loop, stop.
 *
 * A thread takes a fill that may begin (filler.c), runs it with no lock held (I2), and frees it.
 */
#include "sources/filler_threads.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/lock.h"
#include "base/page.h"
#include "base/rcu.h"
#include "base/thread.h"
#include "sources/filler.h"

#include <errno.h>
#include <faultlane/base.h>
#include <faultlane/engine.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

/*
 * Fault the buffer in before the first fill, so that a copy from it into the page cache never
 * stops half-way.  Until then it takes no memory.  The part beyond fill_pages is for huge pages
 * only, and reads from the source fault it in.
 */
static void make_resident(struct fln_filler_thread *self)
{
	if (self->is_resident)
		return;
	memset(self->buffer, 0, fln_pages_to_bytes(self->filler->opts.fill_pages));
	self->is_resident = true;
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
		struct fln_fill_queue *queue = fln_filler_pick(filler);
		struct fln_fill *fill;

		if (!queue && fln_filler_must_watch(filler)) {
			/* Recheck later: may_begin() allows more once all other threads are stuck. */
			filler->is_watched = true;
			(void)fln_cond_wait_until(&filler->work, &filler->lock,
						  fln_now_ns() + FLN_FILLER_STUCK_NS);
			filler->is_watched = false;
			continue;
		}
		if (!queue) {
			fln_cond_wait(&filler->work, &filler->lock);
			continue;
		}
		self->begun_ns = fln_now_ns();
		fill = fln_filler_begin(filler, queue);
		fln_unlock(&filler->lock);

		make_resident(self);
		fill->stoppable = true;
		atomic_store_explicit(&fill->begun_ns, self->begun_ns, memory_order_relaxed);
		filler->opts.run(fill->image, fill, self->buffer);
		fln_filler_free(filler, queue, fill);

		fln_lock(&filler->lock);
		self->begun_ns = 0;
		fln_filler_end(filler, queue);
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
	t->is_resident = false;
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
				       "stopped; repair the source and stop the engine again");
	filler->stopping = false;
	while (rc == 0 && filler->nr_started < filler->opts.nr_threads) {
		rc = start_one(filler, &filler->threads[filler->nr_started]);
		filler->nr_started += rc == 0;
	}
	/* Cannot fail here, so it keeps the error message of start_one(). */
	if (rc)
		(void)fln_filler_stop(filler, UINT64_MAX);
	return rc;
}

int fln_filler_stop(struct fln_filler *filler, uint64_t limit_ns)
{
	unsigned long long left = limit_ns;
	bool in_time = true;

	fln_lock(&filler->lock);
	filler->stopping = true;
	(void)pthread_cond_broadcast(&filler->work);
	(void)pthread_cond_broadcast(&filler->stop);
	while (filler->nr_running > 0 && in_time)
		in_time = fln_cond_wait_part(&filler->idle, &filler->lock, &left);
	in_time = filler->nr_running == 0;
	fln_unlock(&filler->lock);
	if (!in_time)
		return fln_fail(ETIMEDOUT, "a source read has not come back; repair the source, "
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
