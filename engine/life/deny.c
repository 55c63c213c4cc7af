/* SPDX-License-Identifier: MIT */
/*
 * Making pages inaccessible that no thread may read once their region is no longer served.
 *
 * In this process's memory the end of a region rests on mappings alone (I6).  Over each run of
 * unfilled pages an empty file is mapped, so that a touch raises SIGBUS (vacant.c).  Mapping over
 * a registered range raises UNMAP; where no worker reads it, the run becomes PROT_NONE first, and
 * is mapped over when it is unregistered.  Poison would not be enough.  It lives in page tables,
 * and the kernel drops those of a shared mapping when it collapses the file behind it (khugepaged,
 * or MADV_COLLAPSE through any other mapping); MADV_DONTNEED clears it; and it takes a page-table
 * entry for each page.  A mapping goes only if the embedder replaces it.
 *
 * Pages that a private region's guest has discarded must read zeros, with nothing underneath.  The
 * zero page of UFFDIO_ZEROPAGE lies in a mapping of the image: if the image is punched there the
 * PTE is zapped, and then the image shows, with whatever another guest has written to it.  So a
 * separate mapping of zeros replaces these pages.
 *
 * No page becomes mapped meanwhile, because workers leave the region's faults alone.  But a write
 * copies a page that is mapped read-only, such as the zero page, at any time.  So such a range is
 * write-protected before the last look at it (deny_kernel.c).
 *
 * Each run is a VMA, and may split another.  Their number is bounded by the mappings that the
 * process has left.  If there are more runs, those closest together are joined, and the readable
 * pages between them become inaccessible, too.  That is the safe side, and is logged.  A joined
 * run becomes PROT_NONE and stays so: mapping over it would zap its mapped pages one by one, each
 * with a TLB flush on all processors, and make every shard's worker read an event.  So there are
 * two walks: the first counts the gaps between runs by powers of two of their size; the second
 * closes all gaps below some size, and as many of that size as necessary.
 */
#include "engine/life/deny.h"

#include "base/alloc.h"
#include "base/blockmap.h"
#include "base/log.h"
#include "base/page.h"
#include "base/plant.h"
#include "base/rcu.h"
#include "engine/doubt.h"
#include "engine/life/budget.h"
#include "engine/life/deny_kernel.h"
#include "engine/region_map.h"
#include "engine/state/advised.h"
#include "engine/state/engine.h"
#include "engine/state/guest.h"
#include "engine/state/job.h"
#include "engine/turn.h"
#include "engine/uffd.h"
#include "sharding/stripes.h"
#include "sources/image_punch_unfilled.h"
#include "sources/image_ready.h"

#include <errno.h>
#include <faultlane/base.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define NR_CLASSES 64u
#define MIN_RUNS 64u /* whatever the budget says */

struct run {
	uint64_t addr, end;
	bool zero;   /* to be mapped as zeros; else to become inaccessible */
	bool joined; /* has readable pages between its parts */
};

/* The state of one walk through the region. */
struct fln_denial {
	const struct fln_memory_ops *ops;
	bool apply;        /* false: the walk only counts */
	bool may_unmap;    /* workers read the UNMAP events that mapping over raises */
	bool unregistered; /* none are raised */
	bool pending;      /* @run is valid, and may still grow */
	struct run run;
	uint64_t nr_runs, max_runs, nr_zero;
	uint64_t gaps[NR_CLASSES]; /* numbers of gaps, by the class of pages lost in closing them */
	uint32_t join_below;       /* close every gap of a lower class, */
	uint64_t nr_open;          /* and of this class all but so many */
	uint64_t nr_lost;          /* readable pages lost by closing gaps */
	int error;                 /* the first, negative */
};

struct fln_mask fln_region_unsafe(const struct fln_region *r, uint64_t block)
{
	struct fln_mask valid = fln_blockmap_valid(&r->map, block), safe, filled, zero, m;
	uint32_t lo = fln_mask_next_set(&valid, 0), hi = fln_mask_next_clear(&valid, lo);

	fln_rcu_read_lock();
	if (r->foreign) {
		/* Only mapped pages have contents; discarded pages read zero. */
		safe = fln_blockmap_load(&r->map, FLN_PLANE_PRESENT, block);
		/* A page copied between a discard's message and the discard itself was zapped. */
		if (fln_region_is_doubted(r, block) && !fln_planted(FLN_BUG_FOREIGN_BELIEVED))
			memset(&safe, 0, sizeof(safe));
		m = fln_blockmap_load(&r->map, FLN_PLANE_DISCARDED, block);
		safe = fln_mask_or(&safe, &m);
		fln_rcu_read_unlock();
		return fln_mask_andnot(&valid, &safe);
	}
	/* PRESENT in the map may be stale; FILLED in the image is always right. */
	fln_image_ready(r->image, fln_region_image_page(r, block * FLN_BLOCK_PAGES + lo), hi - lo,
			&filled, &zero);
	m = fln_blockmap_load(&r->map, FLN_PLANE_DISCARDED, block);
	fln_rcu_read_unlock();
	safe = fln_mask_or(&filled, &zero);
	safe = fln_mask_up(&safe, lo);
	safe = fln_mask_or(&safe, &m);
	m = fln_mask_andnot(&valid, &safe);
	/* A huge page is mapped as a whole: if part of it is unsafe, all of it is. */
	return r->page_bytes == FLN_BLOCK_BYTES && !fln_mask_empty(&m) ? valid : m;
}

/*
 * The discarded pages of a private region that are to be mapped as zeros.  Adds those for which
 * that is impossible to *@unsafe.
 */
static struct fln_mask discarded(struct fln_region *r, const struct fln_denial *d, uint64_t block,
				 struct fln_mask *unsafe)
{
	struct fln_mask pages = { { 0 } }, poisoned, own;

	if (!r->is_private)
		return pages;
	fln_rcu_read_lock();
	pages = fln_blockmap_load(&r->map, FLN_PLANE_DISCARDED, block);
	poisoned = fln_blockmap_load(&r->map, FLN_PLANE_POISONED, block);
	fln_rcu_read_unlock();
	if (fln_mask_empty(&pages))
		return pages;
	poisoned = fln_mask_and(&poisoned, &pages);
	pages = fln_mask_andnot(&pages, &poisoned);
	*unsafe = fln_mask_or(unsafe, &poisoned);
	if (d->ops->own(r, fln_region_addr_of(r, block * FLN_BLOCK_PAGES), &own)) {
		pages = fln_mask_andnot(&pages, &own);
		if (d->may_unmap)
			return pages;
	}
	/* Zeros cannot be mapped there, or it is unknown which pages are the guest's own copies. */
	*unsafe = fln_mask_or(unsafe, &pages);
	return (struct fln_mask){ { 0 } };
}

/* Make room for @nr more ranges of zeros.  Ranges without room become inaccessible instead. */
static void make_room(struct fln_region *r, uint64_t nr)
{
	const struct fln_allocator *a = &r->guest->engine->alloc;
	uint64_t max = r->nr_zeroed + nr;
	void *room;

	if (nr == 0 || max <= r->max_zeroed)
		return;
	room = fln_zalloc(a, (size_t)max * sizeof(*r->zeroed), FLN_NODE_ANY);
	if (!room)
		return;
	if (r->nr_zeroed)
		memcpy(room, r->zeroed, (size_t)r->nr_zeroed * sizeof(*r->zeroed));
	fln_free(a, r->zeroed, (size_t)r->max_zeroed * sizeof(*r->zeroed), FLN_NODE_ANY);
	r->zeroed = room;
	r->max_zeroed = max;
}

static int apply_run(struct fln_region *r, struct fln_denial *d, const struct run *run)
{
	uint64_t len = run->end - run->addr;

	if (run->zero && fln_planted(FLN_BUG_END_BY_ZERO_PAGE))
		return 0;
	/* Threads that write meanwhile split runs that the first walk counted as one. */
	if (run->zero && r->nr_zeroed == r->max_zeroed && !fln_planted(FLN_BUG_ZEROS_AS_COUNTED))
		make_room(r, r->nr_zeroed / 2 + MIN_RUNS);
	if (run->zero && r->nr_zeroed < r->max_zeroed && d->ops->zero(r, run->addr, len) == 0) {
		r->zeroed[r->nr_zeroed].addr = run->addr;
		r->zeroed[r->nr_zeroed++].end = run->end;
		return 0;
	}
	if (fln_planted(FLN_BUG_END_BY_POISON)) {
		r->sealed = true;
		return -EIO;
	}
	if (!run->joined) {
		if ((d->may_unmap || d->unregistered) && d->ops->vacate(r, run->addr, len) == 0)
			return 0;
		r->vacate_later = true;
	}
	r->sealed = true;
	return fln_uffd_deny(&r->guest->shards[0].uffd, run->addr, len);
}

static void finish_run(struct fln_region *r, struct fln_denial *d)
{
	int rc;

	if (!d->pending)
		return;
	d->pending = false;
	d->nr_runs++;
	d->nr_zero += d->run.zero;
	rc = d->apply ? apply_run(r, d, &d->run) : 0;
	d->error = d->error ? d->error : rc;
}

/* Readable pages that would be lost if @next were joined to the run before. */
static uint64_t nr_lost_between(const struct fln_denial *d, const struct run *next)
{
	uint64_t bytes = next->addr - d->run.end;

	/* Zeros are lost, too, unless the joined run is all zeros. */
	if (d->run.zero && (!next->zero || bytes))
		bytes += d->run.end - d->run.addr;
	if (next->zero && (!d->run.zero || next->addr != d->run.end))
		bytes += next->end - next->addr;
	return fln_bytes_to_pages(bytes);
}

/* The gap before @next as a power of two of the pages lost. */
static uint32_t class_of_gap(const struct fln_denial *d, const struct run *next)
{
	uint64_t pages = nr_lost_between(d, next);

	return pages ? 64 - (uint32_t)__builtin_clzll(pages) : 0;
}

static bool must_join(struct fln_denial *d, uint32_t class)
{
	if (d->nr_runs + 1 >= d->max_runs || class < d->join_below)
		return true;
	if (class > d->join_below)
		return false;
	if (d->nr_open == 0)
		return true;
	d->nr_open--;
	return false;
}

/* Requires: runs come in address order. */
static void add_run(struct fln_region *r, struct fln_denial *d, const struct run *next)
{
	uint32_t class;

	if (!d->pending) {
		d->run = *next;
		d->pending = true;
		return;
	}
	if (next->addr == d->run.end && next->zero == d->run.zero) {
		d->run.end = next->end;
		return;
	}
	class = class_of_gap(d, next);
	if (!d->apply) {
		d->gaps[class < NR_CLASSES ? class : NR_CLASSES - 1]++;
	} else if (must_join(d, class)) {
		d->nr_lost += nr_lost_between(d, next);
		d->run.end = next->end;
		d->run.zero = false;
		d->run.joined = true;
		return;
	}
	finish_run(r, d);
	d->run = *next;
	d->pending = true;
}

/* The runs of one block that lie in [addr, end). */
static void walk_block(struct fln_region *r, struct fln_denial *d, uint64_t block, uint64_t addr,
		       uint64_t end)
{
	uint64_t base = fln_region_addr_of(r, block * FLN_BLOCK_PAGES);
	struct fln_mask unsafe = fln_region_unsafe(r, block);
	struct fln_mask zero = discarded(r, d, block, &unsafe);
	struct fln_mask either = fln_mask_or(&unsafe, &zero);
	uint32_t lo = (uint32_t)fln_bytes_to_pages(addr > base ? addr - base : 0), hi;

	for (; fln_mask_next_run(&either, &lo, &hi); lo = hi) {
		struct run run = { .addr = base + fln_pages_to_bytes(lo) };

		run.zero = fln_mask_test(&zero, lo);
		hi = fln_mask_next_clear(run.zero ? &zero : &unsafe, lo);
		run.end = base + fln_pages_to_bytes(hi);
		if (run.addr >= end)
			return;
		if (run.end > end)
			run.end = end;
		add_run(r, d, &run);
	}
}

/* fln_memory_ops.each callback: a piece of the region that still maps its image. */
static int walk_piece(struct fln_region *r, uint64_t addr, uint64_t len_bytes)
{
	uint64_t end = addr + len_bytes, stop;

	for (uint64_t at = addr; at < end; at = stop) {
		stop = fln_block_end(at, end);
		walk_block(r, r->denial, fln_region_page_of(r, at) / FLN_BLOCK_PAGES, at, stop);
	}
	finish_run(r, r->denial);
	return 0;
}

/* Choose the gaps to close so that at most max_runs runs are left. */
static void choose_gaps(struct fln_denial *d)
{
	uint64_t nr = d->nr_runs;

	d->join_below = 0;
	d->nr_open = UINT64_MAX;
	for (uint32_t c = 0; nr > d->max_runs && c < NR_CLASSES; c++) {
		d->join_below = c;
		d->nr_open = 0;
		if (nr - d->gaps[c] <= d->max_runs)
			d->nr_open = d->gaps[c] - (nr - d->max_runs);
		nr -= d->gaps[c] - d->nr_open;
	}
}

/* Do workers read the UNMAP events that mapping over the region raises? */
static bool are_events_read(const struct fln_region *r)
{
	for (uint32_t i = 0; i < r->guest->nr_shards; i++) {
		const struct fln_shard *s = fln_region_shard(r, i);

		if (!s->worker || atomic_load(&s->unreadable))
			return false;
	}
	return r->guest->running;
}

/*
 * Charge the VMAs of the runs to the budget.  The stripes' share is there already: their VMAs
 * merge when the range is unregistered.
 */
static void charge_budget(struct fln_region *r, struct fln_denial *d)
{
	struct fln_engine *engine = r->guest->engine;
	uint64_t nr_maps = 2 * d->nr_runs, have = r->plan.nr_stripes + r->nr_denial_maps;

	if (nr_maps <= have || fln_engine_take_stripes(engine, nr_maps - have) != 0)
		return;
	r->nr_denial_maps += nr_maps - have;
}

static void log_lost(const struct fln_region *r, uint64_t nr)
{
	fln_log(&r->guest->engine->log, FLN_LOG_WARNING,
		"guest %s: in the region at 0x%" PRIx64 " filled and unfilled pages alternate more "
		"often than there are mappings left: %" PRIu64 " filled or discarded pages have "
		"become inaccessible, too; raise vm.max_map_count",
		r->guest->name, r->addr, nr);
}

void fln_region_empty_given_up(struct fln_region *r)
{
	if (!r->is_private || fln_planted(FLN_BUG_END_OVER_OLD))
		return;
	for (uint64_t block = 0; block < r->map.nr_blocks; block++) {
		uint64_t page = block * FLN_BLOCK_PAGES;
		struct fln_mask m, valid = fln_blockmap_valid(&r->map, block);
		uint32_t lo = 0, hi;

		fln_rcu_read_lock();
		m = fln_blockmap_load(&r->map, FLN_PLANE_DISCARDED, block);
		fln_rcu_read_unlock();
		m = fln_mask_and(&m, &valid);
		for (; fln_mask_next_run(&m, &lo, &hi); lo = hi)
			fln_image_punch_unfilled(r->image, fln_region_image_page(r, page + lo),
						 hi - lo);
	}
}

/*
 * The most runs that a region may have, at two VMAs a run: half of the budget of stripes that is
 * left, or an eighth of the mappings that the process has left, whichever is more.  So a small
 * budget costs no filled pages.
 */
static uint64_t max_runs(const struct fln_region *r, const struct fln_denial *d)
{
	uint64_t left = fln_engine_stripes_left(r->guest->engine);
	uint64_t nr = (left / 2 + r->plan.nr_stripes) / 2;
	uint64_t spare = 0;

	/* Counting mappings reads a line for each: only where it can make a difference. */
	if (nr < fln_bytes_to_pages(r->len_bytes) && d->ops->nr_left)
		spare = d->ops->nr_left() / 8;
	nr = nr > spare ? nr : spare;
	return nr > MIN_RUNS ? nr : MIN_RUNS;
}

static int walk(struct fln_region *r, struct fln_denial *d)
{
	int rc;

	d->apply = false;
	d->nr_runs = 0;
	d->nr_zero = 0;
	d->nr_lost = 0;
	d->error = 0;
	memset(d->gaps, 0, sizeof(d->gaps));
	rc = d->ops->each(r, walk_piece);
	if (rc)
		return rc;
	choose_gaps(d);
	make_room(r, d->nr_zero);
	d->nr_runs = 0;
	d->nr_zero = 0;
	d->apply = true;
	rc = d->ops->each(r, walk_piece);
	return rc ? rc : d->error;
}

/* Retries with half as many runs while mappings run out, down to MIN_RUNS. */
static int deny(struct fln_region *r, struct fln_denial *d)
{
	struct fln_engine *engine = r->guest->engine;
	int rc;

	d->ops = engine->memory ? engine->memory : &fln_kernel_memory;
	/* As many as last time, so that pages left readable then are not joined now. */
	d->max_runs = r->max_denial_runs ? r->max_denial_runs : max_runs(r, d);
	r->denial = d;
	for (rc = walk(r, d); rc == -ENOMEM && d->max_runs > MIN_RUNS; rc = walk(r, d))
		d->max_runs = d->max_runs / 2 > MIN_RUNS ? d->max_runs / 2 : MIN_RUNS;
	r->denial = NULL;
	r->max_denial_runs = rc == 0 ? d->max_runs : 0;
	return rc;
}

int fln_region_deny(struct fln_region *r)
{
	struct fln_denial d = { .may_unmap = are_events_read(r) };
	int rc;

	fln_guest_assert_turn(r->guest);
	rc = deny(r, &d);
	charge_budget(r, &d);
	if (rc == 0 && d.nr_lost)
		log_lost(r, d.nr_lost);
	return rc;
}

void fln_region_vacate(struct fln_region *r)
{
	struct fln_denial d = { .unregistered = true };

	fln_guest_assert_turn(r->guest);
	if (!r->vacate_later || r->foreign || r->unsafe)
		return;
	/* Only once: later another region may lie there. */
	r->vacate_later = false;
	(void)deny(r, &d);
}

void fln_region_deny_free(struct fln_region *r)
{
	struct fln_engine *engine = r->guest->engine;

	if (r->nr_denial_maps)
		fln_engine_give_back_stripes(engine, r->nr_denial_maps);
	r->nr_denial_maps = 0;
	fln_free(&engine->alloc, r->zeroed, (size_t)r->max_zeroed * sizeof(*r->zeroed),
		 FLN_NODE_ANY);
	fln_region_doubt_free(r);
	r->zeroed = NULL;
	r->nr_zeroed = 0;
	r->max_zeroed = 0;
}
