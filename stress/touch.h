/* SPDX-License-Identifier: MIT */
/* The parts of a touch that threads and vCPUs share. */
#ifndef STRESS_TOUCH_H
#define STRESS_TOUCH_H

#include "stress/stress.h"

/* One touch. */
struct touch {
	uint64_t page;
	bool writes;
};

/* Whether the thread belongs to a crowd, which passes the closed gate. */
static inline bool touch_belongs_to_crowd(const struct toucher *t)
{
	const struct stress *s = t->s;

	return atomic_load(&s->alone) &&
	       (atomic_load(&s->hot) || atomic_load(&s->stampede) != atomic_load(&t->stampede));
}

/*
 * Pass the gate; false: it is closed.  @inside is set before the gate is read, and a step closes
 * the gate before it reads @inside: so either this finds the gate closed, or
 * gate_wait_outside() waits for the touch.
 */
static inline bool touch_enter(struct toucher *t)
{
	atomic_store(&t->inside, true);
	if (!atomic_load(&t->s->gate) || touch_belongs_to_crowd(t))
		return true;
	atomic_store(&t->inside, false);
	return false;
}

static inline bool touch_has_next(const struct toucher *t)
{
	return atomic_load_explicit(&t->nr_touches, memory_order_relaxed) < t->limit;
}

/* Number of warm pages; with discards the rest is cold, see TRAIL_NR. */
static inline uint64_t touch_nr_warm(const struct stress *s)
{
	return has_chaos(&s->opts, CHAOS_DISCARD) ? s->nr_pages / 2 : s->nr_pages;
}

/* Choose a page near the border between two regions that share a block; false: one region. */
static inline bool touch_go_to_border(struct toucher *t, uint64_t *page)
{
	const struct layout *l = &t->s->layout;

	if (l->nr_segments < 2)
		return false;
	*page = l->segments[rng_below(&t->rng, l->nr_segments)].first +
		rng_below(&t->rng, HUGE_PAGES) + t->s->nr_pages - HUGE_PAGES / 2;
	return true;
}

/* Choose a page that chaos has recently changed; false: there is none yet. */
static inline bool touch_follow_trail(struct toucher *t, uint64_t *page)
{
	struct stress *s = t->s;
	uint64_t at =
		atomic_load_explicit(&s->trail[rng_below(&t->rng, TRAIL_NR)], memory_order_relaxed);

	if (at == 0)
		return false;
	*page = (at >> 8) + rng_below(&t->rng, at & 255);
	return true;
}

static inline struct touch touch_pick(struct toucher *t)
{
	struct stress *s = t->s;
	uint64_t stampede = atomic_load_explicit(&s->stampede, memory_order_relaxed);
	uint64_t hot = atomic_load_explicit(&s->hot, memory_order_relaxed);
	uint64_t dead = s->source.dead_page, page;

	if (stampede != atomic_load_explicit(&t->stampede, memory_order_relaxed)) {
		atomic_store(&t->stampede, stampede);
		/* Read, because a writer would have the page to itself. */
		return (struct touch){ .page = stampede & ((UINT64_C(1) << 40) - 1) };
	}
	if (hot)
		page = hot - 1 + rng_below(&t->rng, 4);
	/* Some threads often touch the failing page and its neighbours, which must not fail. */
	else if (t->index % 32 == 0 && dead != UINT64_MAX && rng_below(&t->rng, 16) == 0)
		page = dead + (rng_next(&t->rng) & rng_next(&t->rng) & 7);
	else if ((rng_below(&t->rng, 4) != 0 || !touch_follow_trail(t, &page)) &&
		 (rng_below(&t->rng, 4) != 0 || !touch_go_to_border(t, &page)))
		page = rng_below(&t->rng, touch_nr_warm(s));
	page %= s->nr_pages;
	return (struct touch){ page, rng_below(&t->rng, 4) == 0 && page != dead };
}

static inline struct touch touch_begin(struct toucher *t, uint64_t now)
{
	struct touch touch = touch_pick(t);

	atomic_store_explicit(&t->page, touch.page, memory_order_relaxed);
	atomic_store_explicit(&t->since_ns, now, memory_order_relaxed);
	return touch;
}

static inline void touch_end(struct toucher *t, uint64_t took_ns)
{
	if (took_ns > atomic_load_explicit(&t->longest_ns, memory_order_relaxed))
		atomic_store_explicit(&t->longest_ns, took_ns, memory_order_relaxed);
	atomic_store_explicit(&t->since_ns, 0, memory_order_relaxed);
	atomic_store(&t->inside, false);
	atomic_fetch_add_explicit(&t->nr_touches, 1, memory_order_relaxed);
}

/*
 * A touch ended in a signal: complain, unless the page is the one that is declared to fail, or
 * the guest is being stopped.  @settled: model_is_settled() when the touch began; if the page
 * stays settled, it must be readable while the guest is being stopped, too.
 */
void touch_after_signal(struct toucher *t, uint64_t page, int signo, bool settled);
/* Report the page in t->copy as wrong. */
void touch_describe_wrong(struct toucher *t, uint64_t page);

#endif
