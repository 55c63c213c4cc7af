/* SPDX-License-Identifier: MIT */
/*
 * One block of a job: its filled pages are mapped, fills of the others are requested, and what the
 * block waits for is noted.
 *
 * Tested by unit.populate.
 */
#include "engine/job_block.h"

#include "base/blockmap.h"
#include "base/clock.h"
#include "base/page.h"
#include "base/plant.h"
#include "engine/block.h"
#include "engine/confirm.h"
#include "engine/directory.h"
#include "engine/install.h"
#include "engine/job_parts.h"
#include "engine/jobs.h"
#include "engine/lift.h"
#include "engine/owners.h"
#include "engine/region_map.h"
#include "engine/state/guest.h"
#include "engine/state/job.h"
#include "engine/state/worker.h"
#include "engine/strays.h"
#include "engine/uffd.h"
#include "sources/filler.h"
#include "sources/image.h"
#include "sources/image_want.h"

#include <errno.h>
#include <faultlane/guest.h>
#include <stdatomic.h>
#include <stdbool.h>

/* After so many parts have asked for a fill in vain, the others wait until one comes free. */
#define JOB_TRIES 8u

void fln_job_fail(struct fln_job *job, int error)
{
	int none = 0;

	/* -ESHUTDOWN replaces an error of pages: it is the one at which parts stop. */
	if (error == -ESHUTDOWN && !fln_planted(FLN_BUG_JOB_KEEPS_ERROR))
		atomic_store(&job->error, error);
	else
		(void)atomic_compare_exchange_strong(&job->error, &none, error);
}

void fln_job_fail_page(struct fln_job *job, uint64_t addr)
{
	uint64_t first = atomic_load(&job->failed_addr);

	fln_job_fail(job, -EIO);
	while (addr < first && !atomic_compare_exchange_weak(&job->failed_addr, &first, addr))
		;
}

/* Pages of a block need no more work, whatever their outcome. */
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
	fln_job_fail_page(part->job, jb->addr + fln_pages_to_bytes(fln_mask_next_set(&lost, 0)));
	settle_todo(part, jb, &lost);
}

/*
 * Forget, and return, those of @poisoned whose poison MADV_DONTNEED has zapped, which the event did
 * not say (events.c): their PTEs are empty.
 */
static struct fln_mask forget_lifted(const struct fln_block_round *b,
				     const struct fln_mask *poisoned)
{
	struct fln_chunk *c = fln_blockmap_peek(&b->in.region->map, b->block);
	struct fln_uffd *u = &b->in.shard->uffd;
	struct fln_mask lifted = { { 0 } };
	uint32_t p = 0;

	if (!c || b->in.region->discard != FLN_DISCARD_IMAGE || !fln_lift_serves(b->in.region) ||
	    !fln_uffd_can_poison(u))
		return lifted;
	for (; (p = fln_mask_next_set(poisoned, p)) < FLN_BLOCK_PAGES; p++) {
		if (fln_uffd_is_empty(u, b->in.block_addr + fln_pages_to_bytes(p)))
			fln_mask_set(&lifted, p);
	}
	if (!fln_mask_empty(&lifted))
		fln_region_forget(c, &lifted);
	return lifted;
}

/*
 * Settle the pages that are mapped already, and those that are poisoned.  A caller that waits for
 * the job is promised that pages are mapped, and PRESENT is only a hint: another installer may set
 * it after the page was zapped, at any time before this look.  So the page tables are asked here,
 * and not only before the job.
 */
static void settle_known(struct fln_job_part *part, struct fln_job_block *jb,
			 const struct fln_block_round *b)
{
	const struct fln_blockmap *map = &b->in.region->map;
	const struct fln_job *job = part->job;
	struct fln_mask m = fln_blockmap_load(map, FLN_PLANE_PRESENT, b->block), due, lifted;

	m = fln_mask_and(&m, &jb->todo);
	if (!job->background && !fln_mask_empty(&m) && !fln_planted(FLN_BUG_PRESENT_BELIEVED))
		m = fln_pagemap_confirm(job->pagemap_fd, b->in.region, b->block, &jb->todo,
					fln_pagemap_distrusts(job->end - job->addr));
	settle_todo(part, jb, &m);
	m = fln_blockmap_load(map, FLN_PLANE_POISONED, b->block);
	if (fln_mask_empty(&m))
		return;
	due = fln_lift_due(b->in.region, b->block, &m); /* claim_ready() claims these */
	m = fln_mask_andnot(&m, &due);
	m = fln_mask_and(&m, &jb->todo);
	lifted = forget_lifted(b, &m);
	m = fln_mask_andnot(&m, &lifted);
	fail_pages(part, jb, &m);
}

bool fln_job_may_ask(const struct fln_worker *w, const struct fln_job_part *part)
{
	return part->let_ask || (w->nr_job_tries > 0 && part->vain_turn != w->job_turn);
}

void fln_job_let_ask(struct fln_worker *w)
{
	w->nr_job_tries = JOB_TRIES;
	w->job_turn++;
}

/* What a block waits for after an unfilled page was requested.  TRY: request more of its pages. */
static enum fln_job_block_state state_after_request(struct fln_worker *w, struct fln_job_part *part,
						    struct fln_job_block *jb,
						    const struct fln_image_want *want)
{
	if (!want->starved) {
		/* A request that covers the whole image, as it has no source: one change tells of all. */
		jb->any_page |= want->nr_covered > FLN_BLOCK_PAGES;
		return jb->any_page ? FLN_JOB_WAITS : FLN_JOB_TRY;
	}
	if (!part->let_ask)
		w->nr_job_tries -= w->nr_job_tries > 0;
	part->let_ask = false;
	part->vain_turn = w->job_turn;
	return FLN_JOB_STARVED;
}

/* The same for a block that is one huge page, which is requested as a whole. */
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
		state = state_after_request(w, part, jb, &want);
		return state == FLN_JOB_TRY ? FLN_JOB_WAITS : state;
	}
}

/* Request the fills of unfilled pages.  Returns the block's next state. */
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
		if ((image->source || image->link) && !fln_job_may_ask(w, part))
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
			one_state = state_after_request(w, part, jb, &want);
			if (one_state != FLN_JOB_TRY)
				return state == FLN_JOB_AGAIN ? state : one_state;
			/* One change tells of all pages that the fill covers. */
			if (want.nr_covered > FLN_BLOCK_PAGES - p)
				return state;
			p += (uint32_t)want.nr_covered - 1;
			break;
		}
	}
	return state;
}

/*
 * Note the counters of changes before the states are read: a change that comes too late for the
 * states then shows in the counters.
 */
static void note_slots(struct fln_worker *w, struct fln_job_block *jb,
		       const struct fln_block_round *b)
{
	const struct fln_image *image = b->in.region->image;
	uint64_t first = fln_region_image_page(b->in.region,
					       b->in.block_page + fln_mask_next_set(&jb->todo, 0));

	jb->any_page = false;
	jb->slot[0] = fln_image_slot(image, first);
	jb->slot[1] = fln_image_slot(image, first + FLN_BLOCK_PAGES - 1);
	jb->slot[2] = fln_image_slot(image, FLN_ANY_PAGE);
	for (uint32_t i = 0; i < 3; i++)
		jb->seen[i] = fln_filler_change(w->opts.filler, jb->slot[i]);
	fln_job_block_watch(w, jb, fln_image_set(image));
}

bool fln_job_block_has_changed(const struct fln_worker *w, const struct fln_job_block *jb)
{
	bool changed = false;

	for (uint32_t i = 0; i < (jb->any_page ? 3 : 2); i++)
		changed |= fln_filler_change(w->opts.filler, jb->slot[i]) != jb->seen[i];
	return changed;
}

/* Claim @todo; with @zero_too also poisoned pages where zeros are due, which a job may lift, too. */
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

/* Claim and map the block's filled pages, and zeros if they are wanted.  RCU read lock held. */
static void map_ready(struct fln_worker *w, struct fln_job_part *part, struct fln_job_block *jb,
		      struct fln_block_round *b)
{
	struct fln_mask none = { { 0 } };
	bool zero_too = !part->job->background || b->in.region->is_private;

	b->in.by_worker = true;
	b->chunk = fln_blockmap_chunk(&b->in.region->map, b->block);
	b->claimed = jb->todo;
	if (!b->chunk && fln_blockmap_chunks_return(&b->in.region->map)) {
		b->in.stop = true; /* retried soon: chunks are being returned */
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
	    fln_is_over(part->progress_ns, w->looked_ns, w->opts.source_timeout_ns))
		fail_pages(part, jb, &b->in.starved);
	if (!zero_too)
		settle_todo(part, jb, &b->zero);
}

uint32_t fln_job_block_work(struct fln_worker *w, struct fln_job_part *part,
			    struct fln_job_block *jb)
{
	uint32_t before = fln_mask_count(&jb->todo), after;
	uint64_t addr = jb->addr + fln_pages_to_bytes(fln_mask_next_set(&jb->todo, 0));
	struct fln_region *r = fln_directory_find(part->job->guest, addr);
	struct fln_block_round b = { .chunk = NULL };
	struct fln_mask ready, elsewhere;

	if (!r || atomic_load_explicit(&r->closing, memory_order_acquire)) {
		fln_job_fail(part->job, -ESHUTDOWN);
		return 1;
	}
	b.in.region = r;
	b.in.shard = fln_region_shard_at(r, addr);
	b.in.block_page = fln_align_down(fln_region_page_of(r, addr), FLN_BLOCK_PAGES);
	b.in.block_addr = jb->addr;
	b.block = b.in.block_page / FLN_BLOCK_PAGES;
	/* The region was removed, and a smaller one has taken its place. */
	elsewhere = fln_blockmap_valid(&r->map, b.block);
	elsewhere = fln_mask_andnot(&jb->todo, &elsewhere);
	if (!fln_mask_empty(&elsewhere)) {
		fln_job_fail(part->job, -ESHUTDOWN);
		return 1;
	}
	if (fln_region_is_released(&r->map, b.block)) {
		settle_todo(part, jb, &jb->todo);
		return 1;
	}
	note_slots(w, jb, &b);
	settle_known(part, jb, &b);
	elsewhere = fln_region_stray_pages(r, b.in.block_addr);
	elsewhere = fln_mask_and(&jb->todo, &elsewhere);
	fail_pages(part, jb, &elsewhere);
	fln_block_look(&b);
	ready = fln_mask_or(&b.filled, &b.zero);
	ready = fln_mask_and(&ready, &jb->todo);
	if (!fln_mask_empty(&ready))
		map_ready(w, part, jb, &b);
	/* A page that was not mapped may be claimed by a thread that is just mapping it: retry. */
	jb->state = FLN_JOB_AGAIN;
	if (!b.in.stop && fln_mask_empty(&b.in.again))
		jb->state = request_rest(w, part, jb, &b);
	after = fln_mask_count(&jb->todo);
	if (after < before)
		part->progress_ns = fln_now_ns();
	return before - after + 1;
}
