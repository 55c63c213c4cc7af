/* SPDX-License-Identifier: MIT */
/*
 * Jobs on the workers: fill and map a range without a fault.
 *
 * A worker takes its blocks of a job in order, up to FLN_JOB_BLOCKS at a time.  Of
 * each it asks for the fills that are due, maps what is there, and goes on to the
 * next; when it is kicked it looks at those again that wait and have changed, which a
 * counter tells (fln_image_slot()): other guests' jobs may wait by the thousand.  When
 * no fill is free, nothing asks for one until one is, and then one block does.
 * Nothing blocks, and all of it is done in slices between rounds, when waiting faults have
 * been served (I7); fills are queued behind those of faults (sources/filler.h).
 *
 * A job never holds on to a region: each look at a block finds it anew, under
 * RCU, and a region that is closing ends the job.
 */
#include "engine/populate.h"

#include "base/blockmap.h"
#include "base/clock.h"
#include "base/page.h"
#include "base/rcu.h"
#include "engine/directory.h"
#include "engine/job_block.h"
#include "engine/jobs.h"
#include "engine/owners.h"
#include "engine/region_map.h"
#include "engine/state/guest.h"
#include "engine/state/job.h"
#include "engine/state/worker.h"
#include "sources/filler.h"
#include "sources/image.h"
#include "sources/image_want.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>

/* Should a change have gone unnoticed: a look at all that waits, which costs little so rarely. */
#define LOOK_ALL_NS FLN_NS_PER_S

/* The next block of a part that its worker has to do.  False: there is none, or *budget is 0. */
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
		jb->addr = fln_align_down(at, FLN_BLOCK_BYTES);
		stop = fln_block_end(at, job->end);
		stop = stop < r->addr + r->len_bytes ? stop : r->addr + r->len_bytes;
		part->at = stop;
		if (fln_region_shard_at(r, at)->worker != w)
			continue;
		jb->state = FLN_JOB_TRY;
		jb->todo = fln_mask_range((uint32_t)fln_bytes_to_pages(at - jb->addr),
					  (uint32_t)fln_bytes_to_pages(stop - jb->addr));
		/* All of a huge page, or nothing of it. */
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

static void spend(uint32_t *budget, uint32_t nr)
{
	*budget -= nr < *budget ? nr : *budget;
}

static bool may_go_on(const struct fln_worker *w, const struct fln_job_part *part,
		      const struct fln_job_block *jb)
{
	switch (jb->state) {
	case FLN_JOB_WAITS:
		return false;
	case FLN_JOB_STARVED:
		return !jb->any_kick && fln_job_may_ask(w, part);
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
					: jb->state == FLN_JOB_STARVED && !jb->any_kick
						? FLN_JOB_NEEDS_FILL
						: FLN_JOB_NEEDS_KICK;

		need = its > need ? its : need;
	}
	return need;
}

/* Something of a part has changed: what it needs, and how many need the same. */
static void account(struct fln_worker *w, struct fln_job_part *part)
{
	enum fln_job_need need = need_of(part);

	w->nr_parts_that[part->need]--;
	w->nr_parts_that[need]++;
	part->need = need;
}

/* Look at the blocks in work, and take on more.  Never more than about *budget. */
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
		} else if (!may_go_on(w, part, jb)) {
			i++;
			continue;
		}
		spend(budget, fln_job_block_work(w, part, jb));
		if (fln_mask_empty(&jb->todo))
			*jb = part->blocks[--part->nr_blocks];
		else
			i++;
		/* Readers are waited for: not one section for all of a slice. */
		fln_rcu_read_unlock();
		fln_rcu_read_lock();
	}
	fln_rcu_read_unlock();
}

/* A source that does not answer: the job ends, as a fault would. */
static void check_patience(struct fln_worker *w, struct fln_job_part *part, uint64_t now_ns)
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
	/* Faults come first, and may take long: a source that answers them is not late. */
	done = r ? atomic_load_explicit(&r->image->nr_done, memory_order_relaxed) : 0;
	if (done != part->image_done) {
		part->image_done = done;
		part->progress_ns = now_ns;
		r = NULL;
	}
	/* What is pushed comes when it comes: only a source can be late. */
	if (r && r->image->can_be_late) {
		fln_job_fail_page(part->job, addr);
		part->nr_blocks = 0;
		part->at = part->job->end;
	}
	fln_rcu_read_unlock();
}

static void take_given(struct fln_worker *w)
{
	struct fln_job_part *part, **last = &w->parts;
	uint64_t now;

	if (!atomic_load_explicit(&w->given, memory_order_relaxed))
		return;
	now = fln_now_ns();
	if (w->looked_ns == 0)
		w->looked_ns = now;
	part = atomic_exchange_explicit(&w->given, NULL, memory_order_acquire);
	fln_job_let_ask(w);
	while (*last)
		last = &(*last)->next;
	while (part) {
		struct fln_job_part *next = part->next;

		part->next = NULL;
		part->progress_ns = now; /* its sources have not been asked so far */
		part->vain_turn = w->job_turn - 1;
		part->need = FLN_JOB_NEEDS_WORK;
		w->nr_parts_that[FLN_JOB_NEEDS_WORK]++;
		*last = part;
		last = &part->next;
		part = next;
	}
}

/* May some block of a part have changed since this was asked last? */
static bool part_has_changed(const struct fln_worker *w, struct fln_job_part *part)
{
	uint32_t now;

	if (!part->has_slot || part->several_images)
		return true;
	/* Before the blocks' are read: what changes after this is seen next time. */
	now = fln_filler_change(w->opts.filler, part->slot);
	if (now == part->seen && !part->any_kick)
		return false;
	part->seen = now;
	return true;
}

/* What of a part waits, and has changed?  All of it, if the guest's regions have. */
static void look_again(struct fln_worker *w, struct fln_job_part *part, bool all)
{
	uint32_t looks =
		atomic_load_explicit(&part->job->guest->jobs.nr_looks, memory_order_acquire);

	all |= looks != part->seen_looks;
	part->seen_looks = looks;
	if (!part_has_changed(w, part) && !all && !is_over(part))
		return;
	for (uint32_t i = 0; i < part->nr_blocks; i++) {
		struct fln_job_block *jb = &part->blocks[i];

		if (jb->state != FLN_JOB_AGAIN && (all || fln_job_block_has_changed(w, jb)))
			jb->state = FLN_JOB_TRY;
	}
	account(w, part);
}

void fln_populate_kicked(struct fln_worker *w)
{
	/* Else no fill has come free since somebody asked in vain. */
	if (!fln_filler_starves(w->opts.filler, w->opts.index))
		fln_job_let_ask(w);
	for (struct fln_job_part *part = w->parts; part; part = part->next)
		look_again(w, part, false);
}

void fln_populate_tick(struct fln_worker *w, uint64_t now_ns)
{
	bool all = now_ns - w->last_jobs_look_ns > LOOK_ALL_NS;

	if (all)
		w->last_jobs_look_ns = now_ns;
	fln_job_let_ask(w);
	for (struct fln_job_part *part = w->parts; part; part = part->next) {
		check_patience(w, part, now_ns);
		look_again(w, part, all);
	}
}

void fln_populate_credit(struct fln_worker *w, uint64_t stopped_ns)
{
	for (struct fln_job_part *part = w->parts; part; part = part->next)
		part->progress_ns += stopped_ns;
}

static bool needs_nothing_now(const struct fln_worker *w, const struct fln_job_part *part)
{
	return part->need == FLN_JOB_NEEDS_KICK ||
	       (part->need == FLN_JOB_NEEDS_FILL && !fln_job_may_ask(w, part));
}

/* Its worker has nothing to do with it any more. */
static void drop_part(struct fln_worker *w, struct fln_job_part *part)
{
	w->nr_parts_that[part->need]--;
	fln_job_part_end(part);
}

void fln_populate_slice(struct fln_worker *w, uint32_t nr_pages)
{
	uint32_t nr = 0, budget = nr_pages;
	struct fln_job_part **at, *first;

	take_given(w);
	if (!w->parts)
		return;
	at = &w->parts;
	while (*at) {
		struct fln_job_part *part = *at;

		if (!needs_nothing_now(w, part)) {
			if (!is_over(part))
				work_on_part(w, part, &budget);
			account(w, part);
		}
		if (part->need == FLN_JOB_NEEDS_WORK && is_over(part)) {
			*at = part->next;
			drop_part(w, part);
			continue;
		}
		nr++;
		at = &part->next;
	}
	/* All have asked that wanted to. */
	if (budget > 0)
		w->nr_job_tries = 0;
	/* The next slice begins with another job. */
	first = w->parts;
	if (nr > 1) {
		w->parts = first->next;
		first->next = NULL;
		*at = first;
	}
}

enum fln_populate_need fln_populate_need(const struct fln_worker *w)
{
	if (!w->parts)
		return FLN_POPULATE_IDLE;
	if (w->nr_parts_that[FLN_JOB_NEEDS_WORK] > 0 ||
	    (w->nr_parts_that[FLN_JOB_NEEDS_FILL] > 0 && w->nr_job_tries > 0))
		return FLN_POPULATE_BUSY;
	return w->nr_parts_that[FLN_JOB_NEEDS_TIME] > 0 ? FLN_POPULATE_AGAIN : FLN_POPULATE_WAITS;
}

void fln_populate_end(struct fln_worker *w, const struct fln_guest *guest)
{
	struct fln_job_part **at = &w->parts;

	take_given(w);
	while (*at) {
		struct fln_job_part *part = *at;

		if (part->job->guest != guest) {
			at = &part->next;
			continue;
		}
		*at = part->next;
		fln_job_fail(part->job, -ESHUTDOWN);
		drop_part(w, part);
	}
}
