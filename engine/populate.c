/* SPDX-License-Identifier: MIT */
/*
 * Jobs, on the worker: ranges are filled and mapped without faults.
 *
 * A worker works on its blocks of a job in order, on up to FLN_JOB_BLOCKS at a time.  For each
 * block it requests the fills that are due, maps the pages that are filled, and goes on to the
 * next; when it is kicked it retries the blocks that wait and have changed.  Thousands of blocks
 * may wait: so a kick is preceded by a note of which image has changed (changed.h), which leads
 * to the blocks that wait for it, and a counter tells which of these have changed
 * (fln_image_slot()).  A slice works only on parts that can make progress.  When no fill is free,
 * no block requests one until one comes free, and then one block does.
 * Nothing blocks.  All of it is done in slices between rounds, after waiting faults have been
 * served (I7); fills of jobs are queued behind those of faults (sources/filler.h).
 *
 * A job keeps no reference to a region: each look at a block finds the region anew, under RCU, and
 * a region that is closing ends the job.
 */
#include "engine/populate.h"

#include "base/blockmap.h"
#include "base/clock.h"
#include "base/page.h"
#include "base/rcu.h"
#include "engine/directory.h"
#include "engine/job_block.h"
#include "engine/job_parts.h"
#include "engine/jobs.h"
#include "engine/owners.h"
#include "engine/region_map.h"
#include "engine/released.h"
#include "engine/state/engine.h"
#include "engine/state/guest.h"
#include "engine/state/job.h"
#include "engine/state/worker.h"
#include "sources/filler.h"
#include "sources/image.h"
#include "sources/image_want.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>

/* In case a change was missed, all blocks are retried so often: rarely enough to cost little. */
#define LOOK_ALL_NS FLN_NS_PER_S

/* Begin the part's next block of this worker's.  False: there is none, or *budget is 0. */
static bool open_block(struct fln_worker *w, struct fln_job_part *part, uint32_t *budget)
{
	const struct fln_job *job = part->job;

	while (part->at<job->end && * budget> 0) {
		const struct fln_region *r = fln_directory_find(job->guest, part->at);
		struct fln_job_block *jb = &part->blocks[part->nr_blocks];
		uint64_t at = part->at, stop;

		if (!r) {
			fln_job_fail(part->job, -ESHUTDOWN);
			return false;
		}
		--*budget;
		jb->part = part;
		jb->at_watched = NULL;
		jb->addr = fln_align_down(at, FLN_BLOCK_BYTES);
		stop = fln_block_end(at, job->end);
		stop = stop < r->addr + r->len_bytes ? stop : r->addr + r->len_bytes;
		part->at = stop;
		/* First: when all of the guest is released its shards leave their workers. */
		if (fln_released_at(r, at) || fln_region_shard_at(r, at)->worker != w)
			continue;
		jb->state = FLN_JOB_TRY;
		jb->todo = fln_mask_range((uint32_t)fln_bytes_to_pages(at - jb->addr),
					  (uint32_t)fln_bytes_to_pages(stop - jb->addr));
		/* A huge page as a whole, or not at all. */
		if (r->page_bytes == FLN_BLOCK_BYTES)
			jb->todo = fln_mask_range(0, job->skip - jb->addr < FLN_BLOCK_BYTES
							     ? 0
							     : FLN_BLOCK_PAGES);
		else if (job->skip >= at && job->skip < stop)
			fln_mask_clear(&jb->todo,
				       (uint32_t)fln_bytes_to_pages(job->skip - jb->addr));
		if (fln_mask_empty(&jb->todo))
			continue;
		part->nr_blocks++;
		return true;
	}
	return false;
}

static void spend_pages(uint32_t *budget, uint32_t nr)
{
	*budget -= nr < *budget ? nr : *budget;
}

static bool can_progress(const struct fln_worker *w, const struct fln_job_part *part,
			 const struct fln_job_block *jb)
{
	switch (jb->state) {
	case FLN_JOB_WAITS:
		return false;
	case FLN_JOB_STARVED:
		return fln_job_may_ask(w, part);
	default:
		return true;
	}
}

static bool is_over(const struct fln_job_part *part)
{
	const struct fln_job *job = part->job;

	return (part->nr_blocks == 0 && part->at >= job->end) ||
	       atomic_load_explicit(&job->cancelled, memory_order_relaxed) ||
	       atomic_load_explicit(&job->error, memory_order_relaxed) == -ESHUTDOWN;
}

static enum fln_job_need need_of(const struct fln_job_part *part)
{
	enum fln_job_need need = FLN_JOB_NEEDS_KICK;

	if (is_over(part) || (part->nr_blocks < FLN_JOB_BLOCKS && part->at < part->job->end))
		return FLN_JOB_NEEDS_WORK;
	for (uint32_t i = 0; i < part->nr_blocks; i++) {
		const struct fln_job_block *jb = &part->blocks[i];
		enum fln_job_need its = jb->state == FLN_JOB_TRY     ? FLN_JOB_NEEDS_WORK
					: jb->state == FLN_JOB_AGAIN ? FLN_JOB_NEEDS_TIME
					: jb->state == FLN_JOB_WAITS ? FLN_JOB_NEEDS_KICK
					: part->let_ask              ? FLN_JOB_NEEDS_WORK
								     : FLN_JOB_NEEDS_FILL;

		need = its > need ? its : need;
	}
	return need;
}

/* Move the part to the list of what it needs now. */
static void requeue(struct fln_worker *w, struct fln_job_part *part)
{
	fln_job_part_needs(w, part, need_of(part));
}

/* Work on the part's blocks and begin more, for about *budget pages. */
static void work_on_part(struct fln_worker *w, struct fln_job_part *part, uint32_t *budget)
{
	uint32_t i = 0;

	fln_rcu_read_lock();
	while (*budget > 0 && !atomic_load_explicit(&part->job->cancelled, memory_order_relaxed) &&
	       atomic_load_explicit(&part->job->error, memory_order_relaxed) != -ESHUTDOWN) {
		struct fln_job_block *jb = &part->blocks[i];

		if (i == part->nr_blocks) {
			if (i == FLN_JOB_BLOCKS || !open_block(w, part, budget))
				break;
		} else if (!can_progress(w, part, jb)) {
			i++;
			continue;
		}
		spend_pages(budget, fln_job_block_work(w, part, jb));
		if (fln_mask_empty(&jb->todo))
			fln_job_block_done(part, jb);
		else
			i++;
		/* Grace periods wait for this section: it must not last for a whole slice. */
		fln_rcu_read_unlock();
		fln_rcu_read_lock();
	}
	fln_rcu_read_unlock();
}

/* End the part if its source has not delivered a page in source_timeout_ns, as a fault would. */
static void check_timeout(struct fln_worker *w, struct fln_job_part *part, uint64_t now_ns)
{
	uint64_t timeout = w->opts.source_timeout_ns;
	struct fln_job_block *jb = &part->blocks[0];
	const struct fln_region *r;
	uint64_t addr, done;

	if (part->nr_blocks == 0 || timeout == UINT64_MAX ||
	    (jb->state != FLN_JOB_WAITS && jb->state != FLN_JOB_STARVED) ||
	    !fln_is_over(part->progress_ns, w->looked_ns, timeout))
		return;
	addr = jb->addr + fln_pages_to_bytes(fln_mask_next_set(&jb->todo, 0));
	fln_rcu_read_lock();
	r = fln_directory_find(part->job->guest, addr);
	/* Fills of faults go first, and may take long: a source that delivers those is not late. */
	done = r ? atomic_load_explicit(&r->image->nr_done, memory_order_relaxed) : 0;
	if (done != part->image_done) {
		part->image_done = done;
		part->progress_ns = now_ns;
		r = NULL;
	}
	/* Only a source can be late: an image without one may be pushed at any time. */
	if (r && r->image->can_be_late) {
		fln_job_fail_page(part->job, addr);
		fln_job_blocks_drop(part);
		part->at = part->job->end;
	}
	fln_rcu_read_unlock();
}

static void collect_given(struct fln_worker *w)
{
	struct fln_job_part *part;
	uint64_t now;

	if (!atomic_load_explicit(&w->given, memory_order_relaxed))
		return;
	now = fln_now_ns();
	fln_worker_has_waiting(w, now);
	part = atomic_exchange_explicit(&w->given, NULL, memory_order_acquire);
	while (part) {
		struct fln_job_part *next = part->next;

		part->progress_ns = now; /* its sources have not been asked so far */
		part->vain_turn = w->job_turn - 1;
		part->let_ask = true; /* its image may have a free fill though others have none */
		fln_job_part_enter(w, part);
		part = next;
	}
}

/* Retry the part's blocks if it is over or its guest's regions have changed, or with @all. */
static void retry_part(struct fln_worker *w, struct fln_job_part *part, bool all)
{
	uint32_t looks =
		atomic_load_explicit(&part->job->guest->jobs.nr_looks, memory_order_acquire);

	all |= looks != part->seen_looks;
	part->seen_looks = looks;
	if (!all && !is_over(part))
		return;
	for (uint32_t i = 0; i < part->nr_blocks; i++) {
		if (part->blocks[i].state != FLN_JOB_AGAIN)
			part->blocks[i].state = FLN_JOB_TRY;
	}
	requeue(w, part);
}

/* Page states of an image of the set have changed: retry the blocks of which some have. */
static void pages_changed(struct fln_worker *w, uint32_t set)
{
	for (struct fln_job_block *jb = w->job_blocks[set]; jb; jb = jb->next_watched) {
		if ((jb->state != FLN_JOB_WAITS && jb->state != FLN_JOB_STARVED) ||
		    !fln_job_block_has_changed(w, jb))
			continue;
		jb->state = FLN_JOB_TRY;
		requeue(w, jb->part);
	}
}

/* Images of the set may have a free fill: of each image one part that wants a fill asks again. */
static void fills_changed(struct fln_worker *w, uint32_t set)
{
	uint32_t let = UINT32_MAX;

	for (struct fln_job_block *jb = w->job_blocks[set]; jb; jb = jb->next_watched) {
		if (jb->state != FLN_JOB_STARVED || jb->slot[2] == let)
			continue;
		let = jb->slot[2];
		jb->part->let_ask = true;
		requeue(w, jb->part);
	}
}

static void image_changed(void *ctx, enum fln_change what, uint32_t set)
{
	if (what == FLN_CHANGE_PAGES)
		pages_changed(ctx, set);
	else
		fills_changed(ctx, set);
}

/* Retry parts of guests whose regions have changed, or whose jobs were cancelled. */
static void retry_where_asked(struct fln_worker *w)
{
	uint32_t looks;

	if (!w->parts)
		return;
	looks = atomic_load_explicit(&w->parts->job->guest->engine->nr_job_looks,
				     memory_order_acquire);
	if (looks == w->seen_job_looks)
		return;
	w->seen_job_looks = looks;
	for (struct fln_job_part *part = w->parts; part; part = part->next_of_worker)
		retry_part(w, part, false);
}

void fln_populate_kicked(struct fln_worker *w)
{
	/* While it starves, no fill of the pool has come free since a job asked in vain. */
	if (!fln_filler_starves(w->opts.filler, w->opts.index))
		fln_job_let_ask(w);
	retry_where_asked(w);
	fln_changed_take(&w->opts.filler->changed[w->opts.index], w, image_changed);
}

void fln_populate_tick(struct fln_worker *w, uint64_t now_ns)
{
	bool all = now_ns - w->last_jobs_look_ns > LOOK_ALL_NS;

	if (all)
		w->last_jobs_look_ns = now_ns;
	fln_job_let_ask(w);
	for (struct fln_job_part *part = w->parts; part; part = part->next_of_worker) {
		check_timeout(w, part, now_ns);
		retry_part(w, part, all);
	}
}

void fln_populate_credit(struct fln_worker *w, uint64_t stopped_ns)
{
	for (struct fln_job_part *part = w->parts; part; part = part->next_of_worker)
		part->progress_ns += stopped_ns;
}

/* End a part: the worker may not use it any more. */
static void end_part(struct fln_worker *w, struct fln_job_part *part)
{
	fln_job_part_leave(w, part);
	fln_job_part_end(part);
}

/* Work once on each of the first @nr parts of a list. */
static void work_on_list(struct fln_worker *w, enum fln_job_need need, uint32_t nr,
			 uint32_t *budget)
{
	for (; nr > 0 && *budget > 0; nr--) {
		struct fln_job_part *part = w->parts_that[need].first;

		/* The parts behind it have waited for less time. */
		if (need == FLN_JOB_NEEDS_FILL && !fln_job_may_ask(w, part))
			return;
		if (!is_over(part))
			work_on_part(w, part, budget);
		if (is_over(part))
			end_part(w, part);
		else
			requeue(w, part);
	}
}

void fln_populate_slice(struct fln_worker *w, uint32_t nr_pages)
{
	static const enum fln_job_need needs[] = { FLN_JOB_NEEDS_WORK, FLN_JOB_NEEDS_FILL,
						   FLN_JOB_NEEDS_TIME };
	uint32_t nr[FLN_JOB_NEEDS_NR], budget = nr_pages;

	collect_given(w);
	if (!w->parts)
		return;
	for (uint32_t i = 0; i < FLN_JOB_NEEDS_NR; i++)
		nr[i] = w->parts_that[i].nr;
	/* The lists take turns at being first: one may use up all of the slice. */
	for (uint32_t i = 0; i < 3; i++) {
		enum fln_job_need need = needs[(w->job_slices + i) % 3];

		work_on_list(w, need, nr[need], &budget);
	}
	w->job_slices++;
	/* All parts that wanted a fill have asked. */
	if (budget > 0)
		w->nr_job_tries = 0;
}

enum fln_populate_need fln_populate_need(const struct fln_worker *w)
{
	if (!w->parts)
		return FLN_POPULATE_IDLE;
	if (w->parts_that[FLN_JOB_NEEDS_WORK].nr > 0 ||
	    (w->parts_that[FLN_JOB_NEEDS_FILL].nr > 0 && w->nr_job_tries > 0))
		return FLN_POPULATE_BUSY;
	return w->parts_that[FLN_JOB_NEEDS_TIME].nr > 0 ? FLN_POPULATE_AGAIN : FLN_POPULATE_WAITS;
}

void fln_populate_end(struct fln_worker *w, const struct fln_guest *guest)
{
	struct fln_job_part *part, *next;

	collect_given(w);
	for (part = w->parts; part; part = next) {
		next = part->next_of_worker;
		if (part->job->guest != guest)
			continue;
		fln_job_fail(part->job, -ESHUTDOWN);
		end_part(w, part);
	}
}
