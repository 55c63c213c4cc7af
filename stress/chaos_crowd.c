/* SPDX-License-Identifier: MIT */
/*
 * All threads in one place: on one page, on four, or outside of the guest.
 *
 * Most crowds come while other touches go on.  The others have the guest to themselves: the
 * gate is closed, no other thread is inside a touch, and only threads of the crowd pass.  So
 * the cost of the crowd can be counted; it is in the summary.
 */
#include "stress/chaos_crowd.h"

#include "stress/account.h"
#include "stress/chaos_discard.h"
#include "stress/gate.h"
#include "stress/stage.h"
#include "stress/stress.h"

#define HOT_PAGES 4u

/* Counts of the guest and of the source so far. */
struct tally {
	uint64_t faults, installs, fills;
};

static struct tally take_tally(struct stress *s)
{
	struct fln_stats st = FLN_STATS_INIT;
	struct tally t = { .fills = atomic_load(&s->source.nr_watched) };

	if (s->guest && fln_guest_stats(s->guest, &st) == 0) {
		t.faults = st.faults;
		t.installs = st.installs;
	}
	return t;
}

static void add_crowd(struct crowd_counts *c, const struct tally *before, const struct tally *after)
{
	uint64_t fills = after->fills - before->fills;
	uint64_t installs = after->installs - before->installs;

	c->nr++;
	c->faults += after->faults - before->faults;
	c->fills += fills;
	c->installs += installs;
	if (fills > c->fills_max)
		c->fills_max = fills;
	if (installs > c->installs_max)
		c->installs_max = installs;
}

static void call_stampede(struct stress *s, uint64_t page)
{
	uint64_t before = atomic_load(&s->stampede);

	atomic_store(&s->stampede, page | (((before >> 40) + 1) << 40));
}

/* True when all threads that still run have taken part, and are outside again. */
static bool stampede_is_over(struct stress *s)
{
	uint64_t stampede = atomic_load(&s->stampede);

	for (uint32_t i = 0; i < s->opts.nr_threads; i++) {
		struct toucher *t = &s->touchers[i];

		if (!atomic_load(&t->gone) &&
		    (atomic_load(&t->stampede) != stampede || atomic_load(&t->inside)))
			return false;
	}
	return true;
}

void crowd_stampede(struct stress *s, uint64_t page)
{
	struct tally before, after;

	source_watch(&s->source, page, 1);
	before = take_tally(s);
	call_stampede(s, page);
	stage_begin("waits for all threads to touch one page");
	gate_let_crowd(s, true);
	while (!stampede_is_over(s) && !atomic_load(&s->stop))
		sleep_ms(1);
	gate_let_crowd(s, false);
	gate_wait_outside(s);
	after = take_tally(s);
	source_watch(&s->source, 0, 0);
	if (!atomic_load(&s->stop))
		add_crowd(&s->stampedes, &before, &after);
}

static void crowd_converge(struct stress *s, uint64_t first, uint64_t ms)
{
	struct tally before, after;

	source_watch(&s->source, first, HOT_PAGES);
	before = take_tally(s);
	atomic_store(&s->hot, first + 1);
	stage_begin("waits while all threads touch four pages");
	gate_let_crowd(s, true);
	sleep_ms(ms);
	gate_let_crowd(s, false);
	gate_wait_outside(s);
	atomic_store(&s->hot, 0);
	after = take_tally(s);
	source_watch(&s->source, 0, 0);
	add_crowd(&s->convergences, &before, &after);
}

/*
 * Wait until no thread is inside a touch and no other step is under way.  The gate is closed
 * first, because steps of other kinds take long while threads touch as fast as they can.
 */
static void become_alone(struct stress *s)
{
	turn_take(s);
	gate_close_begin(s);
	stage_begin("waits for touches to end");
	gate_wait_outside(s);
	stage_begin(stage_waits_others);
	(void)pthread_rwlock_wrlock(&s->world);
	stage_begin("checks that all faults have ended");
	if (!atomic_load(&s->stop))
		account_check_settled(s);
}

static void end_alone(struct stress *s)
{
	gate_open(s);
	(void)pthread_rwlock_unlock(&s->world);
	turn_give(s);
}

/* Without a stop of the guest: every fault must have ended, each counted once. */
bool chaos_pause(struct stress *s, struct rng *rng)
{
	(void)rng;
	become_alone(s);
	end_alone(s);
	return true;
}

bool chaos_stampede(struct stress *s, struct rng *rng)
{
	uint64_t page = rng_below(rng, s->nr_pages);

	if (rng_below(rng, 32)) {
		stage_begin(stage_waits_others);
		(void)pthread_rwlock_rdlock(&s->world);
		stage_begin(NULL);
		chaos_unmap_page(s, page);
		call_stampede(s, page);
		(void)pthread_rwlock_unlock(&s->world);
		return true;
	}
	become_alone(s);
	chaos_unmap_page(s, page);
	crowd_stampede(s, page);
	end_alone(s);
	return true;
}

bool chaos_convergence(struct stress *s, struct rng *rng)
{
	uint64_t first = rng_below(rng, s->nr_pages), ms = 20 + rng_below(rng, 60);

	if (rng_below(rng, 4)) {
		stage_begin(stage_waits_others);
		(void)pthread_rwlock_rdlock(&s->world);
		stage_begin(NULL);
		atomic_store(&s->hot, first + 1);
		sleep_ms(ms);
		atomic_store(&s->hot, 0);
		(void)pthread_rwlock_unlock(&s->world);
		return true;
	}
	become_alone(s);
	for (uint64_t i = 0; i < HOT_PAGES; i++)
		chaos_unmap_page(s, (first + i) % s->nr_pages);
	crowd_converge(s, first, ms);
	end_alone(s);
	return true;
}
