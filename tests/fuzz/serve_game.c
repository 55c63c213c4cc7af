/* SPDX-License-Identifier: MIT */
/* Bytes become operations; see serve_game.h. */
#include "tests/fuzz/serve_game.h"

#include "base/blockmap.h"
#include "base/clock.h"
#include "base/page.h"
#include "engine/events.h"
#include "engine/held.h"
#include "engine/jobs.h"
#include "engine/populate.h"
#include "engine/region_map.h"
#include "engine/serve.h"
#include "engine/serve_block.h"
#include "engine/state/engine.h"
#include "engine/state/guest.h"
#include "engine/state/job.h"
#include "engine/state/worker.h"
#include "sources/fill.h"
#include "sources/filler.h"
#include "sources/image.h"
#include "sources/image_state.h"

#include "tests/support/cm.h"
#include "tests/support/fake_clock.h"

#include <errno.h>
#include <faultlane/base.h>
#include <faultlane/guest.h>
#include <faultlane/image.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_THREADS 200u
#define MAX_EVENTS 8u
#define MAX_STEPS 20000u
#define MAX_ROUNDS 2000u
#define WORKER 3u /* the rig's */
#define CLOCK_BEGIN_NS (10 * FLN_NS_PER_S)

/* The memory of the library: counted, and refused when the game says so. */

static struct {
	uint64_t nr_bytes;
	uint32_t nr;
	uint32_t fail_in; /* the n-th from now on fails; 0: none */
	bool forbidden;   /* I5: nothing on the way of a fault allocates */
} memory;

static void *memory_alloc(void *ctx, size_t size_bytes, size_t align_bytes, uint32_t node)
{
	(void)ctx;
	(void)node;
	assert_false(memory.forbidden);
	if (memory.fail_in > 0 && --memory.fail_in == 0)
		return NULL;
	memory.nr++;
	memory.nr_bytes += size_bytes;
	return aligned_alloc(align_bytes, fln_align_up(size_bytes, align_bytes));
}

static void memory_free(void *ctx, void *ptr, size_t size_bytes, uint32_t node)
{
	(void)ctx;
	(void)node;
	if (!ptr)
		return;
	memory.nr--;
	memory.nr_bytes -= size_bytes;
	free(ptr);
}

static const struct fln_allocator memory_table = {
	.size = sizeof(memory_table),
	.alloc = memory_alloc,
	.free = memory_free,
};

/* Choices. */

/* Mostly near the page that was chosen last, so that things meet. */
static uint32_t some_page(struct game *g)
{
	uint32_t b = bytes_take(&g->in);

	if (b < 64)
		g->last = (g->last + b % 16 + g->nr_pages - 8) % g->nr_pages;
	else if (b < 128)
		g->last = b % 8 * (g->nr_pages / 8); /* some places, again and again */
	else
		g->last = ((b & 127) << 8 | bytes_take(&g->in)) % g->nr_pages;
	return g->last;
}

static uint32_t some_range(struct game *g, uint32_t *nr, uint32_t nr_max)
{
	uint32_t page = some_page(g);

	*nr = 1 + bytes_below(&g->in, nr_max);
	if (*nr > g->nr_pages - page)
		*nr = g->nr_pages - page;
	if (g->trace)
		(void)fprintf(stderr, "  pages %u to %u\n", page, page + *nr - 1);
	return page;
}

/* Where a page lies; its own place if it lies nowhere. */
static uint32_t slot_near(const struct game *g, uint32_t page)
{
	return g->slot_of[page] == GAME_NOTHING ? g->r->opts.lead_pages + page : g->slot_of[page];
}

/* Slots in use from @slot on, at most @nr. */
static uint32_t nr_mapped(const struct game *g, uint32_t slot, uint32_t nr)
{
	uint32_t i = 0;

	while (i < nr && slot + i < g->nr_slots && g->home[slot + i] < g->nr_pages)
		i++;
	return i;
}

/* Threads. */

static void touch_slot(struct game *g, uint32_t slot)
{
	uint32_t t;

	if (FAKE_MAX_THREADS - fake_count(&g->r->fake, FAKE_IDLE) >= MAX_THREADS)
		return;
	t = fake_touch(&g->r->fake, game_addr(g, slot));
	g->touched_ns[t] = fln_now_ns();
}

static void op_touch(struct game *g)
{
	touch_slot(g, slot_near(g, some_page(g)));
}

static void op_touch_some(struct game *g)
{
	uint32_t nr, slot = slot_near(g, some_range(g, &nr, 40));

	for (uint32_t i = 0; i < nr && slot + i < g->nr_slots; i++)
		touch_slot(g, slot + i);
}

static void op_touch_anywhere(struct game *g)
{
	touch_slot(g, g->nr_slots - 1 - bytes_below(&g->in, g->nr_slots));
}

static void op_write(struct game *g)
{
	uint32_t page = some_page(g), slot = g->slot_of[page];
	struct page_model *m = &g->page[page];

	if (slot == GAME_NOTHING || game_is_pending(g, slot) ||
	    fake_page(&g->r->fake, game_addr(g, slot))->pte != FAKE_MAPPED)
		return;
	m->written = UINT64_C(0x7700000000000000) + ++g->nr_written;
	m->may_contents = false;
	m->may_zero = false;
	fake_write(&g->r->fake, game_addr(g, slot), m->written);
}

static void op_flags(struct game *g)
{
	switch (bytes_below(&g->in, 3)) {
	case 0:
		g->r->fake.flags = 0;
		break;
	case 1:
		g->r->fake.flags = UFFD_PAGEFAULT_FLAG_WRITE;
		break;
	default:
		/* Whoever touches mapped pages there waits for leave, once. */
		fake_protect(&g->r->fake, game_addr(g, 0), g->nr_slots);
	}
}

/* Contents come from elsewhere. */
static void push(struct game *g, uint32_t page, uint32_t nr)
{
	for (uint32_t p = page; p < page + nr; p++)
		g->page[p].may_contents |= !g->page[p].given_up && !g->page[p].written;
	rig_put(g->r, page, nr);
}

/* A whole block is filled, and what is whole is released. */
static void release(struct game *g)
{
	struct rig *r = g->r;
	uint64_t first = fln_align_down(r->opts.lead_pages + g->last, FLN_BLOCK_PAGES);
	uint64_t end = first + FLN_BLOCK_PAGES, last = r->opts.lead_pages + g->nr_pages;

	if (atomic_load(&r->region.closing))
		return;
	first = first > r->opts.lead_pages ? first - r->opts.lead_pages : 0;
	end = (end < last ? end : last) - r->opts.lead_pages;
	if (!g->in_read && g->nr_runs % 16 == 0)
		push(g, (uint32_t)first, (uint32_t)(end - first));
	r->fake.unregister_errno = g->nr_runs % 32 == 8 ? ENOMEM : 0;
	memory.forbidden = true;
	rig_release_only(r);
	memory.forbidden = false;
}

static void op_run(struct game *g)
{
	model_let_run(g);
	if (g->releases && ++g->nr_runs % 8 == 0)
		release(g);
}

/* The worker. */

static void op_serve(struct game *g)
{
	memory.forbidden = true;
	fln_serve_shard(&g->r->worker, &g->r->shard);
	memory.forbidden = false;
}

static void op_held(struct game *g)
{
	memory.forbidden = true;
	fln_serve_held(&g->r->worker);
	fln_wake_overflowed(&g->r->worker);
	rig_lift(g->r);
	memory.forbidden = false;
}

static void op_later(struct game *g)
{
	fln_serve_later(&g->r->worker, bytes_below(&g->in, 1000));
}

static void op_clock(struct game *g)
{
	static const uint64_t ns[] = { FLN_NS_PER_US, FLN_NS_PER_MS, 20 * FLN_NS_PER_MS,
				       200 * FLN_NS_PER_MS, 2 * FLN_NS_PER_S };

	fake_clock_pass(ns[bytes_below(&g->in, 5)]);
}

/* Sources. */

/* The fill that is the @n-th in the queue is done; false: there is none. */
static bool fill_one(struct game *g, uint32_t n)
{
	struct fln_filler *filler = &g->r->filler;
	struct fln_fill *fill = fln_filler_withdraw(filler, &g->r->image.queue), *chosen = NULL;

	for (uint32_t i = 0; fill; i++) {
		struct fln_fill *next = fill->next;

		if (i == n || (!next && !chosen)) {
			chosen = fill;
		} else {
			fln_filler_submit(filler, &g->r->image.queue, fill);
		}
		fill = next;
	}
	if (!chosen)
		return false;
	fln_image_run_fill(&g->r->image, chosen, g->r->buffer);
	fln_filler_free(filler, &g->r->image.queue, chosen);
	return true;
}

static void op_fill(struct game *g)
{
	uint32_t nr = 1 + bytes_below(&g->in, 4), skip = bytes_below(&g->in, 4);

	if (g->in_read)
		return; /* this filler is busy */
	g->arm_in_read = bytes_below(&g->in, 4) == 0;
	while (nr-- > 0 && fill_one(g, skip))
		;
	g->arm_in_read = false;
}

static void op_source(struct game *g)
{
	struct rig *r = g->r;
	uint32_t what = bytes_below(&g->in, 4), nr, page = some_range(g, &nr, 8);

	if (what == 0)
		r->read_max_bytes = 0;
	else if (what == 1)
		r->read_max_bytes = 8 * (1 + (uint64_t)bytes_below(&g->in, 2048));
	for (uint32_t p = page; what >= 2 && p < page + nr; p++) {
		uint64_t image_page = rig_image_page(r, p);

		if (r->hole[image_page] || g->page[p].given_up)
			continue;
		r->bad[image_page] = what == 2;
		if (what == 2)
			g->page[p].bad = true;
		else
			g->page[p].may_contents |= !g->page[p].written;
	}
}

/* The whole of a range, as a guest that is to be prepared. */
static void op_fill_range(struct game *g)
{
	uint32_t nr, page = some_range(g, &nr, 64);

	if (!g->in_read)
		(void)fln_image_fill(&g->r->image, fln_pages_to_bytes(rig_image_page(g->r, page)),
				     fln_pages_to_bytes(nr));
}

static void op_push(struct game *g)
{
	uint32_t nr, page = some_range(g, &nr, 40);

	push(g, page, nr);
}

/* What an adopted memfd had before, where nothing was filled: a minor fault, and no contents. */
static void op_junk(struct game *g)
{
	uint32_t page = some_page(g);
	uint64_t image_page = rig_image_page(g->r, page), words[FLN_PAGE_BYTES / 8];
	struct page_model *m = &g->page[page];
	enum fln_image_page state = fln_image_state(&g->r->image, image_page);

	if ((state != FLN_IMAGE_UNFILLED && state != FLN_IMAGE_FAILED) || m->may_zero)
		return;
	m->junk = UINT64_C(0x6600000000000000) + ++g->nr_junk;
	for (uint32_t i = 0; i < FLN_PAGE_BYTES / 8; i++)
		words[i] = m->junk;
	assert_int_equal(pwrite(g->r->image.memfd, words, sizeof(words),
				(off_t)fln_pages_to_bytes(image_page)),
			 sizeof(words));
}

/* What the guest and the embedder do to memory. */

/* Mapping by mapping: of released memory nobody is told. */
static void discard(struct game *g, uint32_t slot, uint32_t nr, bool punch)
{
	struct fake_uffd *f = &g->r->fake;
	uint32_t end = slot + nr, to;

	for (; slot < end && f->nr_events < FAKE_MAX_EVENTS; slot = to) {
		bool plain = fake_page(f, game_addr(g, slot))->plain;

		for (to = slot; to < end && fake_page(f, game_addr(g, to))->plain == plain; to++)
			;
		if (!plain) {
			fake_discard(f, game_addr(g, slot), to - slot, punch);
			continue;
		}
		model_take_effect(g, slot, to - slot, punch);
		if (punch)
			fake_punch(f, game_addr(g, slot), to - slot);
		else
			fake_zap(f, game_addr(g, slot), to - slot);
	}
}

static void op_discard(struct game *g)
{
	uint32_t nr, page = some_range(g, &nr, 60), slot = slot_near(g, page);
	bool punch = bytes_below(&g->in, 2) && g->kind != GAME_PRIVATE; /* refused there */

	nr = nr_mapped(g, slot, nr);
	if (g->r->fake.nr_events >= MAX_EVENTS || nr == 0)
		return;
	for (uint32_t s = slot; s < slot + nr; s++) {
		struct page_model *m = &g->page[g->home[s]];

		/* A written page of a shared mapping lies in the cache, and stays there. */
		if (punch || g->kind != GAME_SHARED ||
		    (!m->written && !(g->ignores_discards && !m->junk)))
			m->may_zero = true;
	}
	discard(g, slot, nr, punch);
}

static void op_discard_block(struct game *g)
{
	uint32_t nr, page = some_range(g, &nr, 600), slot = slot_near(g, page);

	nr = nr_mapped(g, slot, nr);
	if (g->r->fake.nr_events >= MAX_EVENTS || nr == 0 || g->kind == GAME_SHARED)
		return;
	for (uint32_t s = slot; s < slot + nr; s++)
		g->page[g->home[s]].may_zero = true;
	discard(g, slot, nr, false);
}

static bool is_clear(const struct game *g, uint32_t slot, uint32_t nr)
{
	for (uint32_t s = slot; s < slot + nr; s++) {
		if (game_is_pending(g, s))
			return false;
	}
	return true;
}

static void forget_slots(struct game *g, uint32_t slot, uint32_t nr)
{
	for (uint32_t s = slot; s < slot + nr; s++) {
		g->slot_of[g->home[s]] = GAME_NOTHING;
		g->home[s] = GAME_NOTHING;
	}
}

static void op_unmap(struct game *g)
{
	uint32_t nr, page = some_range(g, &nr, 30), slot = slot_near(g, page);

	nr = nr_mapped(g, slot, nr);
	if (g->r->fake.nr_events >= MAX_EVENTS || nr == 0 || !is_clear(g, slot, nr))
		return;
	fake_unmap(&g->r->fake, game_addr(g, slot), nr);
	forget_slots(g, slot, nr);
}

/* Is the slot none of the region's? */
static bool is_outside(const struct game *g, uint32_t slot)
{
	uint32_t lead = g->r->opts.lead_pages;

	return slot < lead || slot >= lead + g->nr_pages;
}

/* mremap(): what lies elsewhere is served nowhere, and nothing lies here any more. */
static void op_remap(struct game *g)
{
	uint32_t nr, page = some_range(g, &nr, 60), from = slot_near(g, page);
	uint32_t to = g->nr_slots - 1 - bytes_below(&g->in, g->nr_slots), room = 0;

	nr = nr_mapped(g, from, nr);
	while (room < nr && to + room < g->nr_slots && is_outside(g, to + room) &&
	       g->home[to + room] == GAME_NOTHING)
		room++;
	if (g->r->fake.nr_events + 1 >= MAX_EVENTS || room == 0 || !is_clear(g, from, room))
		return;
	if (g->trace)
		(void)fprintf(stderr, "  %u slots from %u to %u\n", room, from, to);
	fake_remap(&g->r->fake, game_addr(g, from), game_addr(g, to), room);
	fake_unmap(&g->r->fake, game_addr(g, from), room);
	for (uint32_t i = 0; i < room; i++) {
		uint16_t p = g->home[from + i];

		g->home[to + i] = GAME_STRAY;
		g->stray_of[to + i] = p;
		g->home[from + i] = GAME_NOTHING;
		g->slot_of[p] = GAME_NOTHING;
	}
}

/* An event of kernels to come. */
static void op_unknown(struct game *g)
{
	struct uffd_msg msg = { .event = (uint8_t)(0x40 + bytes_below(&g->in, 16)) };

	fln_shard_event(&g->r->shard, &g->r->worker, &msg);
}

/* Entries vanish and nobody says so; a private page of its own would not. */
static void op_zap(struct game *g)
{
	uint32_t nr, page = some_range(g, &nr, 300);

	if (g->kind == GAME_FOREIGN)
		return;
	for (uint32_t p = page; p < page + nr; p++) {
		if (g->slot_of[p] != GAME_NOTHING &&
		    !(g->kind == GAME_PRIVATE && g->page[p].written))
			fake_zap(&g->r->fake, game_addr(g, g->slot_of[p]), 1);
	}
}

/* Can the image lose its page: is it in the cache that the guest sees it? */
static bool may_lose(const struct game *g, uint32_t page)
{
	return g->kind != GAME_FOREIGN && g->slot_of[page] != GAME_NOTHING &&
	       !(g->kind == GAME_PRIVATE && g->page[page].written);
}

/* Through the descriptor, where pages were filled; on others nobody could know it. */
static void op_punch(struct game *g)
{
	uint32_t nr, page = some_range(g, &nr, 8);

	for (uint32_t p = page; p < page + nr; p++) {
		if (!may_lose(g, p) || !game_is_filled(g, p))
			continue;
		g->page[p].written = 0;
		g->page[p].may_zero = true;
		g->page[p].may_contents = false;
		fake_punch(&g->r->fake, game_addr(g, g->slot_of[p]), 1);
	}
}

static void op_image_discard(struct game *g)
{
	uint32_t nr, page = some_range(g, &nr, 20);

	for (uint32_t p = page; p < page + nr; p++) {
		struct page_model *m = &g->page[p];

		if (!may_lose(g, p))
			continue;
		m->may_zero = true;
		assert_int_equal(fln_image_discard(&g->r->image,
						   fln_pages_to_bytes(rig_image_page(g->r, p)),
						   FLN_PAGE_BYTES),
				 0);
		m->written = 0;
		m->may_contents = false;
		m->given_up = true;
		m->junk = 0;
		fake_zap(&g->r->fake, game_addr(g, g->slot_of[p]), 1); /* as the punch does */
	}
}

/* What goes wrong. */

static void op_trouble(struct game *g)
{
	static const int errnos[] = {
		EAGAIN, ENOMEM, EAGAIN, EEXIST, ENOENT, ENOSPC, EFAULT, EINVAL
	};
	struct fake_uffd *f = &g->r->fake;

	f->fail_in = 1 + bytes_below(&g->in, 5);
	f->fail_times = 1 + bytes_below(&g->in, 3);
	f->fail_errno = errnos[bytes_below(&g->in, 8)];
	f->max_pages = bytes_below(&g->in, 3) ? 0 : 1 + bytes_below(&g->in, 7);
	f->again_after_read = bytes_below(&g->in, 3);
}

static void op_no_memory(struct game *g)
{
	memory.fail_in = bytes_below(&g->in, 4);
}

static enum fln_answer ask(void *ctx, const struct fln_failure *failure)
{
	static const enum fln_answer answers[] = { FLN_ANSWER_POISON, FLN_ANSWER_RETRY,
						   FLN_ANSWER_WAIT, FLN_ANSWER_STOP };
	struct game *g = ((struct rig *)ctx)->user;

	(void)failure;
	if (g->draining)
		return FLN_ANSWER_POISON;
	return answers[bytes_below(&g->in, 4)];
}

/* Populating: one job at a time. */

static void end_job(struct game *g)
{
	if (!g->job || g->job->nr_running > 0)
		return;
	fln_job_free(&g->r->guest, g->job);
	g->job = NULL;
}

static void op_populate(struct game *g)
{
	uint32_t nr, page = some_range(g, &nr, 800);
	struct fln_job *job;

	/* A guest that fails kicks all workers of the engine, which has none here. */
	if (g->job || g->r->engine.opts.nr_workers == 0)
		return;
	job = fln_job_alloc(&g->r->guest);
	if (!job)
		return;
	fln_job_init(job, &g->r->guest, rig_addr(g->r, page), rig_addr(g->r, page + nr));
	job->background = bytes_below(&g->in, 2);
	job->nr_running = 1;
	(void)atomic_fetch_add(&g->r->guest.jobs.nr_parts, 1);
	job->parts[WORKER].job = job;
	job->parts[WORKER].at = job->addr;
	job->parts[WORKER].progress_ns = fln_now_ns();
	atomic_store(&g->r->worker.given, &job->parts[WORKER]);
	g->job = job;
}

static void op_slice(struct game *g)
{
	if (bytes_below(&g->in, 2))
		fln_populate_kicked(&g->r->worker);
	fln_populate_slice(&g->r->worker, 1 + bytes_below(&g->in, 600));
	end_job(g);
}

static void op_end_job(struct game *g)
{
	fln_populate_end(&g->r->worker, &g->r->guest);
	end_job(g);
}

static const struct op {
	const char *name;
	uint32_t weight; /* of 256 */
	void (*fn)(struct game *g);
} ops[] = {
	{ "touch", 70, op_touch },
	{ "touch_some", 6, op_touch_some },
	{ "touch_anywhere", 4, op_touch_anywhere },
	{ "write", 6, op_write },
	{ "flags", 2, op_flags },
	{ "serve", 40, op_serve },
	{ "held", 22, op_held },
	{ "later", 8, op_later },
	{ "clock", 4, op_clock },
	{ "fill", 22, op_fill },
	{ "source", 3, op_source },
	{ "fill_range", 1, op_fill_range },
	{ "run", 22, op_run },
	{ "discard", 9, op_discard },
	{ "discard_block", 1, op_discard_block },
	{ "unmap", 3, op_unmap },
	{ "remap", 4, op_remap },
	{ "unknown", 1, op_unknown },
	{ "zap", 3, op_zap },
	{ "punch", 3, op_punch },
	{ "image_discard", 3, op_image_discard },
	{ "push", 3, op_push },
	{ "junk", 2, op_junk },
	{ "trouble", 5, op_trouble },
	{ "no_memory", 1, op_no_memory },
	{ "populate", 2, op_populate },
	{ "slice", 5, op_slice },
	{ "end_job", 1, op_end_job },
};

static void step(struct game *g)
{
	uint32_t dice = bytes_take(&g->in), i = 0;

	while (i + 1 < sizeof(ops) / sizeof(ops[0]) && dice >= ops[i].weight)
		dice -= ops[i++].weight;
	if (g->trace)
		(void)fprintf(stderr, "%s%s, %zu bytes left\n", g->in_read ? "  " : "", ops[i].name,
			      g->in.left);
	ops[i].fn(g);
	if (g->trace)
		(void)fprintf(stderr, "  at page %u\n", g->last);
	g->nr_steps++;
	model_check(g);
}

/* The source is being read: much can happen in that time. */
static void in_read(struct rig *r, uint64_t image_page)
{
	struct game *g = r->user;

	(void)image_page;
	if (!g->arm_in_read || g->in_read || g->draining)
		return;
	g->in_read = true;
	for (uint32_t nr = 1 + bytes_below(&g->in, 8); nr > 0; nr--)
		step(g);
	g->in_read = false;
}

/* Endings. */

static void no_more_trouble(struct game *g)
{
	g->draining = true;
	g->r->fake.fail_in = 0;
	g->r->fake.max_pages = 0;
	g->r->fake.again_after_read = 0;
	g->r->fake.unregister_errno = 0;
	memory.fail_in = 0;
}

static void say_held(const struct game *g)
{
	const struct fln_worker *w = &g->r->worker;
	const struct fake_thread *t = g->r->fake.threads;

	for (uint32_t i = 0; i < FAKE_MAX_THREADS; i++) {
		if (t[i].state != FAKE_IDLE)
			print_error("a thread is at slot %u, page %u, state %d, %u faults\n",
				    game_slot(g, t[i].addr), g->home[game_slot(g, t[i].addr)],
				    (int)t[i].state, t[i].nr_faults);
	}

	for (uint32_t i = 0; i < w->nr_held; i++)
		print_error("the page at slot %u is held, reason %d, due in %lld us\n",
			    game_slot(g, w->held[i].fault.addr), (int)w->held[i].reason,
			    (long long)(w->held[i].fault.not_before_ns - fln_now_ns()) / 1000);
}

/* Faults are read before events: a worker that reads but a few at a time comes to them late. */
static void read_all(struct game *g)
{
	const struct fake_uffd *f = &g->r->fake;
	bool more = true;

	while (more) {
		op_serve(g);
		more = fake_count(f, FAKE_QUEUED) > 0;
		for (uint32_t i = 0; i < f->nr_events; i++)
			more |= !f->events[i].read;
	}
}

/* Nothing new comes: everybody must be served, in a bounded number of rounds. */
static void drain(struct game *g)
{
	struct rig *r = g->r;

	for (uint32_t i = 0; i < MAX_ROUNDS; i++) {
		uint64_t now = fln_now_ns();

		read_all(g);
		while (fill_one(g, 0))
			;
		op_held(g);
		/* Rounds take no time here; chunks on their way back do. */
		if (fln_blockmap_chunks_return(&r->region.map))
			fln_blockmap_drain(&r->region.map);
		fln_serve_later(&r->worker, UINT32_MAX);
		fln_populate_kicked(&r->worker);
		fln_populate_slice(&r->worker, UINT32_MAX);
		end_job(g);
		model_let_run(g);
		if (fake_count(&r->fake, FAKE_IDLE) == FAKE_MAX_THREADS && r->worker.nr_held == 0 &&
		    !fake_event_pending(&r->fake) && !g->job && rig_fill(r, 0) == 0)
			return;
		if (r->worker.next_due_ns != UINT64_MAX && r->worker.next_due_ns > now)
			fake_clock_pass(r->worker.next_due_ns - now);
	}
	say_held(g);
	fail_msg("threads wait for ever, or fault for ever: %u; %u faults are held%s",
		 FAKE_MAX_THREADS - fake_count(&r->fake, FAKE_IDLE), r->worker.nr_held,
		 g->job ? ", and a job goes on" : "");
}

static void finish_fills(struct game *g)
{
	g->draining = true;
	while (fill_one(g, 0))
		;
	op_end_job(g);
}

/* As closing.c does, without a kernel: nobody is held any more, and what is unsafe is known. */
static void close_region(struct game *g)
{
	atomic_store(&g->r->region.closing, true);
	read_all(g);
	op_held(g);
	fln_serve_later(&g->r->worker, UINT32_MAX);
	finish_fills(g);
	model_let_run(g);
	model_check(g);
	model_check_closed(g);
	/* Where no region is the kernel may have put the poison off, or one may have been to come. */
	no_more_trouble(g);
	fake_clock_pass(3 * FLN_NS_PER_S);
	op_held(g);
	model_let_run(g);
}

static void die(struct game *g)
{
	struct fake_uffd *f = &g->r->fake;

	f->process_gone = true;
	f->nr_events = 0; /* the threads that waited for them have gone, too */
	for (uint32_t i = 0; i < FAKE_MAX_THREADS; i++) {
		if (f->threads[i].state == FAKE_QUEUED)
			f->threads[i].state = FAKE_IDLE; /* its message has gone with it */
	}
	no_more_trouble(g);
	for (uint32_t i = 0; i < 500 && g->r->worker.nr_held > 0; i++) {
		finish_fills(g);
		op_held(g);
		fake_clock_pass(FLN_NS_PER_S);
	}
	finish_fills(g);
	if (g->r->worker.nr_held > 0) {
		say_held(g);
		fail_msg("faults of a process that has gone are held for ever");
	}
}

/* Beginnings. */

static void choose_opts(struct game *g, struct rig_opts *o)
{
	static const uint32_t windows[] = { 1, 8, 16, 64, 512 };
	static const uint32_t sizes[] = { 70, 600, GAME_MAX_PAGES, GAME_MAX_PAGES };
	struct bytes *in = &g->in;

	g->kind = (enum game_kind)bytes_below(in, GAME_NR_KINDS);
	g->ending = bytes_below(in, 4) ? GAME_DRAINS : (enum game_ending)bytes_below(in, 3);
	g->nr_pages = sizes[bytes_below(in, 4)];
	*o = (struct rig_opts){
		.nr_pages = g->nr_pages,
		.lead_pages = bytes_below(in, 2) ? 0 : bytes_below(in, FLN_BLOCK_PAGES),
		.image_page = bytes_below(in, 2) ? 0 : bytes_below(in, 600),
		.spare_pages = GAME_SPARE_PAGES,
		.batch_max = 1 + bytes_below(in, 64),
		.window = windows[bytes_below(in, 5)],
		.window_max = FLN_BLOCK_PAGES,
		.fill_pages = 1u << bytes_below(in, 7),
		.nr_fills = 1 + bytes_below(in, 40),
		.nr_chunks = 1 + bytes_below(in, 8),
		.foreign = g->kind == GAME_FOREIGN,
		.is_private = g->kind == GAME_PRIVATE,
		.timeout_ns = bytes_below(in, 4) ? UINT64_MAX : 100 * FLN_NS_PER_MS,
		.alloc = &memory_table,
		.may_unpoison = true, /* the model looks at it more closely */
	};
	o->held_max = o->batch_max + bytes_below(in, 100);
	o->nr_chunks += o->foreign || o->is_private ? 5 : 0; /* discards must find room */
	g->ignores_discards = g->kind == GAME_SHARED && bytes_below(in, 4) == 0;
	o->discard = g->ignores_discards ? FLN_DISCARD_IMAGE : (enum fln_discard)0;
	switch (bytes_below(in, 6)) {
	case 0:
		o->max_failures = 3;
		break;
	case 1:
		o->on_failure = FLN_ON_FAILURE_ASK;
		o->ask = ask;
		break;
	case 2:
		o->on_failure = FLN_ON_FAILURE_STOP;
		break;
	default:
		break;
	}
}

/* Holes and bad pages, by a pattern of two bytes. */
static void choose_pages(struct game *g)
{
	uint32_t bad = 20 + bytes_take(&g->in), hole = 9 + bytes_take(&g->in);

	for (uint32_t p = 0; p < g->nr_pages; p++) {
		uint64_t image_page = rig_image_page(g->r, p);
		bool spared =
			g->releases && p / FLN_BLOCK_PAGES % 2 == 0; /* else all have poison */

		if (p % bad == bad / 2 && !spared) {
			g->r->bad[image_page] = true;
			g->page[p].bad = true;
			g->page[p].may_contents = false; /* unless it is pushed */
		} else if (p % hole == hole / 3) {
			g->r->hole[image_page] = true;
			g->page[p].may_zero = true; /* unless it is pushed first */
		}
	}
}

static void say_game(const struct game *g)
{
	const struct fln_shard_counters *c = &g->r->shard.count;

	printf("  %u steps, %u read, %u killed, %llu faults, %llu refaults, %llu put off, "
	       "%llu put back, %llu bytes released\n",
	       g->nr_steps, g->nr_read, g->nr_killed, (unsigned long long)rig_count(&c->faults),
	       (unsigned long long)rig_count(&c->refaults),
	       (unsigned long long)rig_count(&c->again),
	       (unsigned long long)rig_count(&c->held_full),
	       (unsigned long long)rig_count(&c->released_bytes));
}

void game_play(const uint8_t *bytes, size_t nr, bool say)
{
	struct game *g = calloc(1, sizeof(*g));
	struct rig_opts opts;

	assert_non_null(g);
	g->in = (struct bytes){ bytes, nr };
	g->trace = getenv("FUZZ_TRACE");
	memset(&memory, 0, sizeof(memory));
	fake_clock_set(CLOCK_BEGIN_NS);
	g->releases = nr > 0 && (bytes[nr - 1] & 1);
	choose_opts(g, &opts);
	opts.release = g->releases ? FLN_RELEASE_AUTO : FLN_RELEASE_NEVER;
	g->r = rig_create(&opts);
	g->nr_slots = opts.lead_pages + opts.nr_pages + opts.spare_pages;
	g->r->in_read = in_read;
	if (opts.on_failure == FLN_ON_FAILURE_NR ||
	    !(opts.on_failure == FLN_ON_FAILURE_STOP || opts.on_failure == FLN_ON_FAILURE_ASK))
		g->r->engine.opts.nr_workers = WORKER + 1;
	model_begin(g);
	choose_pages(g);
	while (g->in.left > 0 && g->nr_steps < MAX_STEPS)
		step(g);
	if (g->ending == GAME_CLOSES) {
		close_region(g);
	} else if (g->ending == GAME_DIES && g->kind == GAME_FOREIGN) {
		die(g);
	} else {
		no_more_trouble(g);
		drain(g);
		model_check_lifted(g);
	}
	model_check_end(g);
	if (say)
		say_game(g);
	rig_destroy(g->r);
	assert_int_equal(memory.nr, 0);
	assert_int_equal(memory.nr_bytes, 0);
	fake_clock_set(0);
	free(g);
}
