/* SPDX-License-Identifier: MIT */
/* What may be read, and what must hold: the model of serve_game.h. */
#include "base/blockmap.h"
#include "base/clock.h"
#include "base/page.h"
#include "base/rcu.h"
#include "engine/life/deny.h"
#include "engine/region_map.h"
#include "engine/state/guest.h"
#include "engine/state/worker.h"
#include "sources/filler.h"
#include "sources/image.h"
#include "sources/image_state.h"
#include "tests/fuzz/serve_game.h"
#include "tests/support/cm.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>

uint64_t game_addr(const struct game *g, uint32_t slot)
{
	(void)g;
	return RIG_ADDR + fln_pages_to_bytes(slot);
}

uint32_t game_slot(const struct game *g, uint64_t addr)
{
	uint64_t slot = fln_bytes_to_pages(addr - RIG_ADDR);

	assert_true(addr >= RIG_ADDR && slot < g->nr_slots);
	return (uint32_t)slot;
}

bool game_is_filled(const struct game *g, uint32_t page)
{
	return fln_image_state(&g->r->image, rig_image_page(g->r, page)) == FLN_IMAGE_FILLED;
}

static bool is_ready(const struct game *g, uint32_t page)
{
	enum fln_image_page state = fln_image_state(&g->r->image, rig_image_page(g->r, page));

	return state == FLN_IMAGE_FILLED || state == FLN_IMAGE_ZERO;
}

static bool is_zero(const struct game *g, uint32_t page)
{
	return fln_image_state(&g->r->image, rig_image_page(g->r, page)) == FLN_IMAGE_ZERO;
}

static bool covers(const struct game *g, const struct fake_event *e, uint32_t slot)
{
	uint64_t addr = game_addr(g, slot);

	return e->zap && addr >= e->msg.arg.remove.start && addr < e->msg.arg.remove.end;
}

bool game_is_pending(const struct game *g, uint32_t slot)
{
	const struct fake_uffd *f = &g->r->fake;

	for (uint32_t i = 0; i < f->nr_events; i++) {
		if (covers(g, &f->events[i], slot))
			return true;
	}
	return false;
}

static bool may_read(const struct game *g, uint32_t page, uint64_t value)
{
	const struct page_model *m = &g->page[page];

	if (m->written)
		return value == m->written || (value == 0 && m->may_zero);
	return (value == 0 && m->may_zero) || (value == rig_due(g->r, page) && m->may_contents) ||
	       (value == m->junk && m->junk && (m->given_up || m->may_zero));
}

static void say_page(const struct game *g, uint32_t page, const char *what, uint64_t value)
{
	const struct page_model *m = &g->page[page];

	print_error("page %u: %s 0x%llx; may be:%s%s%s, written 0x%llx, image state %d\n", page,
		    what, (unsigned long long)value, m->may_contents ? " contents" : "",
		    m->may_zero ? " zero" : "", m->may_die ? " poisoned" : "",
		    (unsigned long long)m->written,
		    (int)fln_image_state(&g->r->image, rig_image_page(g->r, page)));
}

static void check_thread(struct game *g, const struct fake_thread *t)
{
	uint32_t slot = game_slot(g, t->addr), page = g->home[slot];

	if (t->state == FAKE_READ) {
		if (page == GAME_STRAY)
			page = g->stray_of[slot]; /* it was mapped when it was moved */
		assert_true(page < g->nr_pages);  /* else there is nothing to be read */
		if (!may_read(g, page, t->value)) {
			say_page(g, page, "was read as", t->value);
			fail_msg("a thread has read what it may not (I6)");
		}
		g->nr_read++;
		return;
	}
	if (page < g->nr_pages && !g->page[page].may_die) {
		say_page(g, page, "killed a thread; slot", slot);
		fail_msg("a thread was killed without reason");
	}
	g->nr_killed++;
}

void model_check_threads(struct game *g)
{
	struct fake_uffd *f = &g->r->fake;

	for (uint32_t i = 0; i < FAKE_MAX_THREADS; i++) {
		if (f->threads[i].state != FAKE_READ && f->threads[i].state != FAKE_KILLED)
			continue;
		check_thread(g, &f->threads[i]);
		fake_reap(f, i);
	}
}

/*
 * From when its event has been read REMOVE means zero.  DONTNEED means zero only for what
 * was not filled then (what the image says now is what it said then), and for memory that
 * is not the cache's.
 */
void model_take_effect(struct game *g, uint32_t first, uint32_t nr, bool punch)
{
	for (uint32_t slot = first; slot < first + nr; slot++) {
		uint32_t page = g->home[slot];
		struct page_model *m;

		if (page >= g->nr_pages)
			continue;
		m = &g->page[page];
		if (!punch && g->kind == GAME_SHARED && game_is_filled(g, page))
			continue;
		if (punch || g->kind != GAME_SHARED)
			m->written = 0;
		if (g->ignores_discards && g->kind == GAME_SHARED)
			continue;
		if (g->trace)
			(void)fprintf(stderr, "  given up: page %u at slot %u\n", page, slot);
		m->may_contents = false;
		m->given_up = true;
		m->bad = false;
	}
}

void model_let_run(struct game *g)
{
	struct fake_uffd *f = &g->r->fake;

	model_check_threads(g);
	for (uint32_t i = 0; i < f->nr_events; i++) {
		const struct fake_event *e = &f->events[i];
		uint64_t start = e->msg.arg.remove.start, end = e->msg.arg.remove.end;

		if (e->read && e->zap)
			model_take_effect(g, game_slot(g, start),
					  (uint32_t)fln_bytes_to_pages(end - start), e->punch);
	}
	fake_run(f);
	model_check_threads(g);
}

/* I6: what is mapped from the image was filled, or is known to be zero. */
static void on_map(void *ctx, uint64_t addr)
{
	struct game *g = ((struct rig *)ctx)->user;
	uint32_t page = g->home[game_slot(g, addr)];

	if (g->trace)
		(void)fprintf(stderr, "  mapped: page %u at slot %u\n", page, game_slot(g, addr));
	if (page >= g->nr_pages)
		fail_msg("contents were mapped at slot %u, which is no region's",
			 game_slot(g, addr));
	if (!is_ready(g, page)) {
		say_page(g, page, "was mapped at", addr);
		fail_msg("a page was mapped that is not filled");
	}
}

/* A thread waits there that has done so for as long as a source may take. */
static bool is_late(const struct game *g, uint64_t addr)
{
	const struct fake_uffd *f = &g->r->fake;
	uint64_t now = fln_now_ns();

	for (uint32_t i = 0; i < FAKE_MAX_THREADS; i++) {
		if (f->threads[i].state != FAKE_IDLE && f->threads[i].addr == addr &&
		    now - g->touched_ns[i] > g->r->opts.timeout_ns)
			return true;
	}
	return false;
}

static void on_poison(void *ctx, uint64_t addr)
{
	struct game *g = ((struct rig *)ctx)->user;
	uint32_t slot = game_slot(g, addr), page = g->home[slot];
	struct page_model *m;

	if (page >= g->nr_pages)
		return; /* of no region: there is nothing else to be done */
	m = &g->page[page];
	if (g->trace)
		(void)fprintf(stderr, "  poisoned: page %u at slot %u\n", page, slot);
	m->may_die = true;
	if (m->hurt)
		return;
	if (is_ready(g, page) ||
	    (g->kind != GAME_SHARED && rig_map_says(g->r, FLN_PLANE_DISCARDED, page))) {
		say_page(g, page, "can be read, and was poisoned at", addr);
		fail_msg("a page was poisoned whose contents are available");
	}
	if (!m->bad && !is_late(g, addr) && !atomic_load(&g->r->guest.failed)) {
		say_page(g, page, "is only late, and was poisoned at", addr);
		fail_msg("a page was poisoned that has not failed");
	}
}

static void on_deny(void *ctx, uint64_t addr)
{
	struct game *g = ((struct rig *)ctx)->user;
	uint32_t page = g->home[game_slot(g, addr)];

	/* The closer's own rules are checked by what it leaves: model_check_closed(). */
	if (!atomic_load(&g->r->region.closing))
		on_poison(ctx, addr);
	else if (page < g->nr_pages)
		g->page[page].may_die = true;
}

/*
 * Only a discard lifts poison: what it leaves may be mapped over.  So may a page that was given
 * up before the kernel refused to map it: no source of it has failed, and it reads zero, or what
 * was written since, as check_thread() sees.  Where the pool had no chunk nobody knows of
 * poison; then what has come in since is mapped, and read.
 */
static void on_unpoison(void *ctx, uint64_t addr)
{
	struct game *g = ((struct rig *)ctx)->user;
	uint32_t slot = game_slot(g, addr), page = g->home[slot];

	if (page < g->nr_pages && !game_is_pending(g, slot) && !g->page[page].may_zero &&
	    !(g->page[page].hurt && is_zero(g, page)) &&
	    rig_count(&g->r->shard.count.no_chunk) == 0) {
		say_page(g, page, "is poisoned, and was mapped at", addr);
		fail_msg("poison was overwritten");
	}
}

static void on_injected(void *ctx, uint64_t addr, int err)
{
	struct game *g = ((struct rig *)ctx)->user;
	uint64_t slot = fln_bytes_to_pages(addr - RIG_ADDR);

	(void)err;
	/* A window may reach beyond what is mapped. */
	if (addr >= RIG_ADDR && slot < g->nr_slots && g->home[slot] < g->nr_pages)
		g->page[g->home[slot]].hurt = true;
}

/* The kernel serves the page from now on: it must have what is due, and nothing forbid it. */
static void on_plain(void *ctx, uint64_t addr)
{
	struct game *g = ((struct rig *)ctx)->user;
	uint32_t page = g->home[game_slot(g, addr)];
	const struct fake_page *p = fake_page(&g->r->fake, addr);

	/* The closer unregisters all that it has made safe: model_check_closed(). */
	if (atomic_load(&g->r->region.closing) || page >= g->nr_pages || g->page[page].hurt)
		return;
	if (g->kind == GAME_FOREIGN ? p->pte != FAKE_MAPPED && !g->page[page].may_zero
				    : !is_ready(g, page)) {
		say_page(g, page, "was released at", addr);
		fail_msg("a page was released that is not there");
	}
	if (p->pte == FAKE_POISONED && rig_count(&g->r->shard.count.no_chunk) == 0) {
		say_page(g, page, "is poisoned, and was released at", addr);
		fail_msg("a poisoned page was released");
	}
}

void model_begin(struct game *g)
{
	struct rig *r = g->r;

	r->user = g;
	r->fake.on_map = on_map;
	r->fake.on_poison = on_poison;
	r->fake.on_deny = on_deny;
	r->fake.on_unpoison = on_unpoison;
	r->fake.on_injected = on_injected;
	r->fake.on_plain = on_plain;
	for (uint32_t slot = 0; slot < g->nr_slots; slot++)
		g->home[slot] = g->stray_of[slot] = GAME_NOTHING;
	for (uint32_t p = 0; p < g->nr_pages; p++) {
		g->slot_of[p] = (uint16_t)(r->opts.lead_pages + p);
		g->home[g->slot_of[p]] = (uint16_t)p;
		g->page[p].may_contents = true;
	}
	for (uint32_t i = 0; i < GAME_STRAY_PAGES; i++)
		g->home[g->nr_slots - 1 - i] = GAME_STRAY;
	fake_map(&r->fake, game_addr(g, g->nr_slots - GAME_STRAY_PAGES), GAME_STRAY_PAGES, -1, 0);
}

/* I3: nobody works on a page now, so nobody may have it. */
static void check_claims(const struct game *g)
{
	const struct fln_blockmap *map = &g->r->region.map;

	fln_rcu_read_lock();
	for (uint64_t block = 0; block < map->nr_blocks; block++) {
		struct fln_mask m;

		if (fln_blockmap_uniform(map, block) >= 0)
			continue;
		m = fln_blockmap_load(map, FLN_PLANE_CLAIMED, block);
		if (!fln_mask_empty(&m)) {
			print_error("page %u of block %llu\n", fln_mask_next_set(&m, 0),
				    (unsigned long long)block);
			fail_msg("a page has a claimer, and nobody is at work (I3)");
		}
	}
	fln_rcu_read_unlock();
}

void model_check(struct game *g)
{
	model_check_threads(g);
	check_claims(g);
	rig_check_accounts(g->r);
}

static uint32_t count_free(const struct fln_fill *fill)
{
	uint32_t nr = 0;

	for (; fill; fill = fill->next)
		nr++;
	return nr;
}

/* Nothing has leaked: fills, chunks, held faults. */
void model_check_end(struct game *g)
{
	const struct fln_filler *filler = &g->r->filler;
	struct fln_blockmap *maps[] = { &g->r->region.map, &g->r->image.map };

	model_check(g);
	assert_int_equal(g->r->worker.nr_held, 0);
	assert_int_equal(g->r->shard.nr_held, 0);
	assert_int_equal(rig_fill(g->r, 0), 0);
	assert_int_equal(count_free(filler->free) + count_free(filler->free_background),
			 filler->opts.nr_fills);
	for (uint32_t i = 0; i < 2; i++) {
		uint32_t nr = 0;

		for (uint64_t block = 0; block < maps[i]->nr_blocks; block++)
			nr += fln_blockmap_uniform(maps[i], block) < 0;
		assert_int_equal(atomic_load(&maps[i]->pool.nr_used) -
					 atomic_load(&maps[i]->pool.nr_returning),
				 nr);
	}
	fln_rcu_read_lock();
	for (uint64_t block = 0; block < g->r->image.map.nr_blocks; block++) {
		struct fln_mask m =
			fln_blockmap_load(&g->r->image.map, FLN_IMAGE_PLANE_FILLING, block);

		assert_true(fln_mask_empty(&m));
	}
	fln_rcu_read_unlock();
}

static void check_left_page(struct game *g, uint32_t page, bool unsafe, bool discarded)
{
	uint32_t slot = g->slot_of[page];
	const struct fake_page *p;
	uint64_t value = 0;

	if (slot == GAME_NOTHING || unsafe)
		return;
	p = fake_page(&g->r->fake, game_addr(g, slot));
	if (p->pte == FAKE_POISONED)
		return;
	/* In a private region the closer maps zeros where something was given up. */
	if (p->pte == FAKE_MAPPED || (fake_in_cache(p) && !discarded))
		value = fake_contents(p);
	/* What the kernel was made to call present is not. */
	if (!may_read(g, page, value) && !g->page[page].hurt) {
		say_page(g, page, "would be read after the end as", value);
		fail_msg("a page was left to the kernel that is not due (I6)");
	}
}

/*
 * What was late, and has turned out to be a hole, stays poisoned as what came late does; and so
 * may a page at which the kernel has refused a call.
 */
void model_check_lifted(struct game *g)
{
	for (uint32_t page = 0; page < g->nr_pages; page++) {
		const struct page_model *m = &g->page[page];
		uint32_t slot = g->slot_of[page];

		if (slot == GAME_NOTHING || g->kind == GAME_FOREIGN || !is_zero(g, page) ||
		    !m->given_up || m->hurt || rig_count(&g->r->shard.count.no_chunk) > 0 ||
		    fake_page(&g->r->fake, game_addr(g, slot))->pte != FAKE_POISONED)
			continue;
		say_page(g, page, "is zero, and stays poisoned; slot", slot);
		fail_msg("poison was left where zeros are due");
	}
}

void model_check_closed(struct game *g)
{
	const struct fln_region *r = &g->r->region;

	for (uint64_t block = 0; block < r->map.nr_blocks; block++) {
		struct fln_mask unsafe = fln_region_unsafe(r, block), discarded;
		struct fln_mask valid = fln_blockmap_valid(&r->map, block);

		fln_rcu_read_lock();
		discarded = fln_blockmap_load(&r->map, FLN_PLANE_DISCARDED, block);
		fln_rcu_read_unlock();
		for (uint32_t i = fln_mask_next_set(&valid, 0); i < FLN_BLOCK_PAGES;
		     i = fln_mask_next_set(&valid, i + 1))
			check_left_page(g,
					(uint32_t)(block * FLN_BLOCK_PAGES) + i -
						g->r->opts.lead_pages,
					fln_mask_test(&unsafe, i), fln_mask_test(&discarded, i));
	}
}
