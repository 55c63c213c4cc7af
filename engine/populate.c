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
#include "base/plant.h"
#include "base/rcu.h"
#include "engine/block.h"
#include "engine/confirm.h"
#include "engine/directory.h"
#include "engine/install.h"
#include "engine/jobs.h"
#include "engine/lift.h"
#include "engine/owners.h"
#include "engine/region_map.h"
#include "engine/state/guest.h"
#include "engine/state/job.h"
#include "engine/state/worker.h"
#include "engine/strays.h"
#include "sources/filler.h"
#include "sources/image.h"
#include "sources/image_want.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>

/* So many parts ask for a fill in vain before the others wait for one to come free. */
#define JOB_TRIES 8u
/* Should a change have gone unnoticed: a look at all that waits, which costs little so rarely. */
#define LOOK_ALL_NS FLN_NS_PER_S

static void fail_job(struct fln_job *job, int error)
{
	int none = 0;

	/* The end goes over an error of pages: parts stop at it, and only at it. */
	if (error == -ESHUTDOWN && !fln_planted(FLN_BUG_JOB_KEEPS_ERROR))
		atomic_store(&job->error, error);
	else
		(void)atomic_compare_exchange_strong(&job->error, &none, error);
}

static void fail_page(struct fln_job *job, uint64_t addr)
{
	uint64_t first = atomic_load(&job->failed_addr);

	fail_job(job, -EIO);
	while (addr < first && !atomic_compare_exchange_weak(&job->failed_addr, &first, addr))
		;
}

/* Pages of a block that need no more work, whatever came of them. */
static void settle_todo(struct fln_job_part *part, struct fln_job_block *jb,
			const struct fln_mask *pages)
{
	struct fln_mask done = fln_mask_and(&jb->todo, pages);
	uint32_t nr = fln_mask_count(&done);

	if (nr == 0)
		return;
	jb->todo = fln_mask_andnot(&jb->todo, &done);
	atomic_fetch_add_explicit(&part->job->nr_done, nr, memory_order_relaxed);
}

static void fail_pages(struct fln_job_part *part, struct fln_job_block *jb,
		       const struct fln_mask *pages)
{
	struct fln_mask lost = fln_mask_and(&jb->todo, pages);

	if (fln_mask_empty(&lost))
		return;
	fail_page(part->job, jb->addr + fln_pages_to_bytes(fln_mask_next_set(&lost, 0)));
	settle_todo(part, jb, &lost);
}

/*
 * What the map knows of the block: what is there already, and what can never be.  A
 * caller that waits is promised that pages are mapped, and PRESENT is a hint: another
 * installer may settle it after somebody has taken the page away, at any time before
 * this look.  So the page tables are asked, here and not only before the job.
 */
static void settle_known(struct fln_job_part *part, struct fln_job_block *jb,
			 const struct fln_block_round *b)
{
	const struct fln_blockmap *map = &b->in.region->map;
	const struct fln_job *job = part->job;
	struct fln_mask m = fln_blockmap_load(map, FLN_PLANE_PRESENT, b->block), due;

	m = fln_mask_and(&m, &jb->todo);
	if (!job->background && !fln_mask_empty(&m) && !fln_planted(FLN_BUG_PRESENT_BELIEVED))
		m = fln_pagemap_confirm(job->pagemap_fd, b->in.region, b->block, &jb->todo,
					fln_pagemap_distrusts(job->end - job->addr));
	settle_todo(part, jb, &m);
	m = fln_blockmap_load(map, FLN_PLANE_POISONED, b->block);
	if (fln_mask_empty(&m))
		return;
	due = fln_lift_due(b->in.region, b->block, &m); /* claim_ready() has it */
	m = fln_mask_andnot(&m, &due);
	fail_pages(part, jb, &m);
}

/*
 * May a part ask the fillers for a fill?  Once in vain, and it waits until one comes free; and
 * so do all, when some have asked in vain, of which each had its turn: what one image finds
 * used up another one need not, for each has a share.
 */
static bool may_ask(const struct fln_worker *w, const struct fln_job_part *part)
{
	return w->nr_job_tries > 0 && part->vain_turn != w->job_turn;
}

/* A fill has come free, or others want some. */
static void let_ask(struct fln_worker *w)
{
	w->nr_job_tries = JOB_TRIES;
	w->job_turn++;
}

/* Of a page that is not there: what its block waits for.  More of it may be asked for: TRY. */
static enum fln_job_block_state pending(struct fln_worker *w, const struct fln_image *image,
					struct fln_job_part *part, struct fln_job_block *jb,
					const struct fln_image_want *want)
{
	if (!want->starved) {
		/* What the image has no fill for is told of for all of it, and once. */
		jb->any_page |= want->nr_covered > FLN_BLOCK_PAGES;
		return jb->any_page ? FLN_JOB_WAITS : FLN_JOB_TRY;
	}
	/* Fills of a link are its own: each worker that is kicked tries. */
	if (!image->link) {
		part->vain_turn = w->job_turn;
		w->nr_job_tries -= w->nr_job_tries > 0;
	}
	jb->any_kick |= image->link != NULL;
	part->any_kick |= jb->any_kick;
	return FLN_JOB_STARVED;
}

/* A block that is one huge page is asked for as a whole. */
static enum fln_job_block_state request_huge(struct fln_worker *w, struct fln_job_part *part,
					     struct fln_job_block *jb,
					     const struct fln_block_round *b)
{
	struct fln_mask ready = fln_mask_or(&b->filled, &b->zero);
	struct fln_mask all = fln_mask_range(0, FLN_BLOCK_PAGES);
	struct fln_image_want want = { .background = true };
	struct fln_image *image = b->in.region->image;
	enum fln_job_block_state state;

	if (fln_mask_empty(&jb->todo))
		return FLN_JOB_WAITS;
	if (!fln_mask_empty(&ready))
		return FLN_JOB_AGAIN;
	switch (fln_image_want(image, fln_region_image_page(b->in.region, b->in.block_page),
			       w->opts.index, &want)) {
	case FLN_IMAGE_IS_FAILED:
		fail_pages(part, jb, &all);
		return FLN_JOB_WAITS;
	case FLN_IMAGE_IS_READY:
		return FLN_JOB_AGAIN;
	default:
		state = pending(w, image, part, jb, &want);
		return state == FLN_JOB_TRY ? FLN_JOB_WAITS : state;
	}
}

/* Ask for what is not there.  Returns what the block does next. */
static enum fln_job_block_state request_rest(struct fln_worker *w, struct fln_job_part *part,
					     struct fln_job_block *jb,
					     const struct fln_block_round *b)
{
	struct fln_mask ready = fln_mask_or(&b->filled, &b->zero);
	enum fln_job_block_state state = FLN_JOB_WAITS, one_state;
	struct fln_image *image = b->in.region->image;

	if (fln_block_is_huge(b))
		return request_huge(w, part, jb, b);
	for (uint32_t p = fln_mask_next_set(&jb->todo, 0); p < FLN_BLOCK_PAGES;
	     p = fln_mask_next_set(&jb->todo, p + 1)) {
		struct fln_image_want want = { .background = true };
		struct fln_mask one = fln_mask_range(p, p + 1);

		if (fln_mask_test(&ready, p)) {
			state = FLN_JOB_AGAIN;
			continue;
		}
		if (image->source && !may_ask(w, part))
			return state == FLN_JOB_AGAIN ? state : FLN_JOB_STARVED;
		switch (fln_image_want(image,
				       fln_region_image_page(b->in.region, b->in.block_page + p),
				       w->opts.index, &want)) {
		case FLN_IMAGE_IS_FAILED:
			fail_pages(part, jb, &one);
			break;
		case FLN_IMAGE_IS_READY:
			state = FLN_JOB_AGAIN;
			break;
		default:
			one_state = pending(w, image, part, jb, &want);
			if (one_state != FLN_JOB_TRY)
				return state == FLN_JOB_AGAIN ? state : one_state;
			/* What the fill covers is told together. */
			if (want.nr_covered > FLN_BLOCK_PAGES - p)
				return state;
			p += (uint32_t)want.nr_covered - 1;
			break;
		}
	}
	return state;
}

/* Read before the states are: a change that is not seen in them is seen by this. */
static void note_slots(const struct fln_worker *w, struct fln_job_part *part,
		       struct fln_job_block *jb, const struct fln_block_round *b)
{
	const struct fln_image *image = b->in.region->image;
	uint64_t first = fln_region_image_page(b->in.region,
					       b->in.block_page + fln_mask_next_set(&jb->todo, 0));

	jb->any_kick = false;
	jb->any_page = false;
	jb->slot[0] = fln_image_slot(image, first);
	jb->slot[1] = fln_image_slot(image, first + FLN_BLOCK_PAGES - 1);
	jb->slot[2] = fln_image_slot(image, FLN_ANY_PAGE);
	for (uint32_t i = 0; i < 3; i++)
		jb->seen[i] = fln_filler_change(w->opts.filler, jb->slot[i]);
	part->several_images |= part->has_slot && part->slot != jb->slot[2];
	if (part->has_slot)
		return;
	part->has_slot = true;
	part->slot = jb->slot[2];
	part->seen = jb->seen[2];
}

static bool block_has_changed(const struct fln_worker *w, const struct fln_job_block *jb)
{
	bool changed = jb->any_kick;

	for (uint32_t i = 0; i < (jb->any_page ? 3 : 2); i++)
		changed |= fln_filler_change(w->opts.filler, jb->slot[i]) != jb->seen[i];
	return changed;
}

/* Zeros that are due over poison may be mapped by a job as well as by the worker that lifts it. */
static void claim_ready(struct fln_block_round *b, const struct fln_mask *todo, bool zero_too)
{
	struct fln_mask due = fln_chunk_load(b->chunk, FLN_PLANE_POISONED);

	due = fln_mask_and(&due, todo);
	due = fln_lift_due(b->in.region, b->block, &due);
	if (fln_planted(FLN_BUG_POISON_FORGOTTEN))
		fln_region_forget(b->chunk, &due);
	fln_block_claim_pages(b, todo);
	if (!zero_too || fln_mask_empty(&due))
		return;
	due = fln_region_claim_poisoned(b->chunk, &due);
	b->claimed = fln_mask_or(&b->claimed, &due);
}

/* Claim and map what is there.  RCU read lock held. */
static void map_ready(struct fln_worker *w, struct fln_job_part *part, struct fln_job_block *jb,
		      struct fln_block_round *b)
{
	struct fln_mask none = { { 0 } };
	bool zero_too = !part->job->background || b->in.region->is_private;

	b->in.by_worker = true;
	b->chunk = fln_blockmap_chunk(&b->in.region->map, b->block);
	b->claimed = jb->todo;
	if (!b->chunk && fln_blockmap_chunks_return(&b->in.region->map)) {
		b->in.stop = true; /* tried again soon */
		return;
	}
	if (b->chunk)
		claim_ready(b, &jb->todo, zero_too);
	fln_block_look(b);
	fln_block_install(b, zero_too);
	fln_block_settle(b, &none);
	fln_count(&b->in.shard->count.populated, b->in.nr_installed);
	settle_todo(part, jb, &b->in.present);
	fail_pages(part, jb, &b->in.gone);
	fail_pages(part, jb, &b->in.broken);
	if (w->opts.source_timeout_ns != UINT64_MAX &&
	    fln_is_over(part->progress_ns, fln_now_ns(), w->opts.source_timeout_ns))
		fail_pages(part, jb, &b->in.starved);
	if (!zero_too)
		settle_todo(part, jb, &b->zero);
}

/* One look at a block.  RCU read lock held.  Returns how many pages it came to. */
static uint32_t work_on(struct fln_worker *w, struct fln_job_part *part, struct fln_job_block *jb)
{
	uint32_t before = fln_mask_count(&jb->todo), after;
	uint64_t addr = jb->addr + fln_pages_to_bytes(fln_mask_next_set(&jb->todo, 0));
	struct fln_region *r = fln_directory_find(part->job->guest, addr);
	struct fln_block_round b = { .chunk = NULL };
	struct fln_mask ready, elsewhere;

	if (!r || atomic_load_explicit(&r->closing, memory_order_acquire)) {
		fail_job(part->job, -ESHUTDOWN);
		return 1;
	}
	b.in.region = r;
	b.in.shard = fln_region_shard_at(r, addr);
	b.in.block_page = fln_align_down(fln_region_page_of(r, addr), FLN_BLOCK_PAGES);
	b.in.block_addr = jb->addr;
	b.block = b.in.block_page / FLN_BLOCK_PAGES;
	/* The region has gone, and there is a smaller one in its place. */
	elsewhere = fln_blockmap_valid(&r->map, b.block);
	elsewhere = fln_mask_andnot(&jb->todo, &elsewhere);
	if (!fln_mask_empty(&elsewhere)) {
		fail_job(part->job, -ESHUTDOWN);
		return 1;
	}
	note_slots(w, part, jb, &b);
	settle_known(part, jb, &b);
	elsewhere = fln_region_stray_pages(r, b.in.block_addr);
	elsewhere = fln_mask_and(&jb->todo, &elsewhere);
	fail_pages(part, jb, &elsewhere);
	fln_block_look(&b);
	ready = fln_mask_or(&b.filled, &b.zero);
	ready = fln_mask_and(&ready, &jb->todo);
	if (!fln_mask_empty(&ready))
		map_ready(w, part, jb, &b);
	/* What cannot be mapped now may have been claimed by a thread that has mapped it by now. */
	jb->state = FLN_JOB_AGAIN;
	if (!b.in.stop && fln_mask_empty(&b.in.again))
		jb->state = request_rest(w, part, jb, &b);
	after = fln_mask_count(&jb->todo);
	if (after < before)
		part->progress_ns = fln_now_ns();
	return before - after + 1;
}

/* The next block of a part that its worker has to do.  False: there is none, or *budget is 0. */
static bool open_block(struct fln_worker *w, struct fln_job_part *part, uint32_t *budget)
{
	const struct fln_job *job = part->job;

	while (part->at<job->end && * budget> 0) {
		const struct fln_region *r = fln_directory_find(job->guest, part->at);
		struct fln_job_block *jb = &part->blocks[part->nr_blocks];
		uint64_t at = part->at, stop;

		if (!r) {
			fail_job(part->job, -ESHUTDOWN);
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
		return !jb->any_kick && may_ask(w, part);
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
		spend(budget, work_on(w, part, jb));
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
	    !fln_is_over(part->progress_ns, now_ns, timeout))
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
		fail_page(part->job, addr);
		part->nr_blocks = 0;
		part->at = part->job->end;
	}
	fln_rcu_read_unlock();
}

static void take_given(struct fln_worker *w)
{
	struct fln_job_part *part, **last = &w->parts;

	if (!atomic_load_explicit(&w->given, memory_order_relaxed))
		return;
	part = atomic_exchange_explicit(&w->given, NULL, memory_order_acquire);
	let_ask(w);
	while (*last)
		last = &(*last)->next;
	while (part) {
		struct fln_job_part *next = part->next;

		part->next = NULL;
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

		if (jb->state != FLN_JOB_AGAIN && (all || block_has_changed(w, jb)))
			jb->state = FLN_JOB_TRY;
	}
	account(w, part);
}

void fln_populate_kicked(struct fln_worker *w)
{
	/* Else no fill has come free since somebody asked in vain. */
	if (!fln_filler_starves(w->opts.filler, w->opts.index))
		let_ask(w);
	for (struct fln_job_part *part = w->parts; part; part = part->next)
		look_again(w, part, false);
}

void fln_populate_tick(struct fln_worker *w, uint64_t now_ns)
{
	bool all = now_ns - w->last_jobs_look_ns > LOOK_ALL_NS;

	if (all)
		w->last_jobs_look_ns = now_ns;
	let_ask(w);
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
	       (part->need == FLN_JOB_NEEDS_FILL && !may_ask(w, part));
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
		fail_job(part->job, -ESHUTDOWN);
		drop_part(w, part);
	}
}
