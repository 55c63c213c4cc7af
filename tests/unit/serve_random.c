/* SPDX-License-Identifier: MIT */
/*
 * Random faults, events, fills, pushes and failures against a model.
 *
 * The model knows of each page whether the image's contents may still be read,
 * and whether zero may be.  A discard first permits zero, and once it has come
 * into effect forbids the contents, for ever.  At the end every thread has read
 * what was permitted when it read, or was killed because its source had failed.
 *
 * Each run prints its seed; give one as an argument to repeat it.
 */
#include "base/clock.h"
#include "tests/support/cm.h"
#include "tests/support/rig.h"
#include "tests/support/rng.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define NR_PAGES 1500u
#define NR_STEPS 4000u
#define NR_KINDS 3u
#define NR_RUNS 36u
#define MAX_THREADS 200u

struct page_model {
	bool may_contents;
	bool may_zero;
};

struct run {
	struct rig *r;
	struct rng rng;
	struct page_model page[NR_PAGES];
	bool bad[NR_PAGES]; /* of the source, as long as nobody pushes it */
	bool foreign;       /* anonymous memory: a discard is zero, and nothing else takes pages */
	bool is_private;    /* a discard is zero, and the image's holes show */
	uint32_t nr_read, nr_killed;
};

static uint32_t random_range(struct run *run, uint32_t *nr, uint32_t nr_max)
{
	uint32_t page = rng_below(&run->rng, NR_PAGES);

	*nr = 1 + rng_below(&run->rng, nr_max);
	if (*nr > NR_PAGES - page)
		*nr = NR_PAGES - page;
	return page;
}

static uint64_t page_of(const struct run *run, uint64_t addr)
{
	return fln_bytes_to_pages(addr - run->r->region.addr);
}

/* What a thread that has gone on must have seen. */
static void check_threads(struct run *run)
{
	struct fake_uffd *f = &run->r->fake;

	for (uint32_t i = 0; i < FAKE_MAX_THREADS; i++) {
		const struct fake_thread *t = &f->threads[i];
		uint64_t page = page_of(run, t->addr);

		if (t->state == FAKE_READ) {
			bool zero = t->value == 0, contents = t->value == rig_due(run->r, page);

			assert_true(zero || contents);
			if (zero)
				assert_true(run->page[page].may_zero); /* I6 */
			else
				assert_true(run->page[page].may_contents); /* nothing stale */
			run->nr_read++;
			fake_reap(f, i);
		} else if (t->state == FAKE_KILLED) {
			assert_true(run->bad[page]);
			run->nr_killed++;
			fake_reap(f, i);
		}
	}
}

static bool is_filled(struct run *run, uint64_t page)
{
	return fln_image_state(&run->r->image, rig_image_page(run->r, page)) == FLN_IMAGE_FILLED;
}

/*
 * Threads run, and with them those whose discards have been read: from then on
 * REMOVE means zero.  DONTNEED means zero only for what was not filled when its
 * event was read; what the image says now is what it said then.
 */
static void let_run(struct run *run)
{
	struct fake_uffd *f = &run->r->fake;

	check_threads(run);
	for (uint32_t i = 0; i < f->nr_events; i++) {
		const struct fake_event *e = &f->events[i];
		uint64_t first = page_of(run, e->msg.arg.remove.start);
		uint64_t end = page_of(run, e->msg.arg.remove.end);

		for (uint64_t p = first; e->read && p < end; p++) {
			if (e->punch || run->foreign || run->is_private || !is_filled(run, p))
				run->page[p].may_contents = false;
		}
	}
	fake_run(f);
	check_threads(run);
}

static void discard(struct run *run)
{
	uint32_t nr, page = random_range(run, &nr, 60);
	bool punch = rng_below(&run->rng, 2) && !run->is_private; /* MADV_REMOVE is refused there */

	if (run->r->fake.nr_events >= 8)
		return;
	for (uint32_t p = page; p < page + nr; p++)
		run->page[p].may_zero = true;
	fake_discard(&run->r->fake, rig_addr(run->r, page), nr, punch);
}

/* Through the descriptor, where pages were filled; on others nobody could know it. */
static void punch(struct run *run)
{
	uint32_t nr, page = random_range(run, &nr, 8);

	for (uint32_t p = page; p < page + nr; p++) {
		if (!is_filled(run, p))
			continue;
		run->page[p] = (struct page_model){ .may_zero = true };
		fake_punch(&run->r->fake, rig_addr(run->r, p), 1);
	}
}

static void push(struct run *run)
{
	uint32_t nr, page = random_range(run, &nr, 40);

	rig_put(run->r, page, nr);
}

static void embedder_discards(struct run *run)
{
	uint32_t nr, page = random_range(run, &nr, 20);

	for (uint32_t p = page; p < page + nr; p++)
		run->page[p].may_zero = true;
	assert_int_equal(fln_image_discard(&run->r->image,
					   fln_pages_to_bytes(rig_image_page(run->r, page)),
					   fln_pages_to_bytes(nr)),
			 0);
	for (uint32_t p = page; p < page + nr; p++) {
		run->page[p].may_contents = false;
		fake_zap(&run->r->fake, rig_addr(run->r, p), 1); /* as the punch does */
	}
}

static void make_trouble(struct run *run)
{
	static const int errnos[] = { EAGAIN, ENOMEM, EAGAIN };
	struct fake_uffd *f = &run->r->fake;

	f->fail_in = 1 + rng_below(&run->rng, 5);
	f->fail_times = 1 + rng_below(&run->rng, 3);
	f->fail_errno = errnos[rng_below(&run->rng, 3)];
	f->max_pages = rng_below(&run->rng, 3) ? 0 : 1 + rng_below(&run->rng, 7);
	f->again_after_read = rng_below(&run->rng, 3);
}

static void step(struct run *run)
{
	struct rig *r = run->r;
	uint32_t nr, page, dice = rng_below(&run->rng, 100);

	if (dice < 40) {
		if (FAKE_MAX_THREADS - fake_count(&r->fake, FAKE_IDLE) < MAX_THREADS)
			(void)rig_touch(r, rng_below(&run->rng, NR_PAGES));
	} else if (dice < 58) {
		fln_serve_shard(&r->worker, &r->shard);
	} else if (dice < 68) {
		fln_serve_held(&r->worker);
		fln_wake_overflowed(&r->worker);
	} else if (dice < 72) {
		fln_serve_later(&r->worker, rng_below(&run->rng, 1000));
	} else if (dice < 82) {
		(void)rig_fill(r, rng_below(&run->rng, 6));
	} else if (dice < 91) {
		let_run(run);
	} else if (dice < 94) {
		discard(run);
	} else if (dice < 95) {
		push(run);
	} else if (dice < 97 && run->foreign) {
		discard(run);
	} else if (dice < 98 && run->foreign) {
		make_trouble(run);
	} else if (dice < 96) {
		page = random_range(run, &nr, 300); /* entries vanish and nobody says so */
		fake_zap(&r->fake, rig_addr(r, page), nr);
	} else if (dice < 97) {
		punch(run);
	} else if (dice < 98) {
		embedder_discards(run);
	} else {
		make_trouble(run);
	}
	check_threads(run);
	rig_check_accounts(r);
}

/* Faults that pause for want of memory are due by the clock: rounds alone do not get there. */
static void pause_until(uint64_t due_ns)
{
	uint64_t now = fln_now_ns();
	struct timespec ts = { 0, 0 };

	if (due_ns == UINT64_MAX || due_ns <= now)
		return;
	ts.tv_nsec =
		(long)(due_ns - now < 100 * FLN_NS_PER_MS ? due_ns - now : 100 * FLN_NS_PER_MS);
	(void)nanosleep(&ts, NULL);
}

/* Nothing new comes: everybody must be served, in a bounded number of rounds. */
static void drain(struct run *run)
{
	struct rig *r = run->r;

	for (uint32_t i = 0; i < 2000; i++) {
		fln_serve_shard(&r->worker, &r->shard);
		(void)rig_fill(r, UINT32_MAX);
		fln_serve_held(&r->worker);
		fln_serve_later(&r->worker, UINT32_MAX);
		fln_wake_overflowed(&r->worker);
		let_run(run);
		if (fake_count(&r->fake, FAKE_IDLE) == FAKE_MAX_THREADS && r->worker.nr_held == 0 &&
		    !fake_event_pending(&r->fake))
			return;
		pause_until(r->worker.next_due_ns);
	}
	for (uint32_t i = 0; i < r->worker.nr_held; i++) {
		const struct fln_held *h = &r->worker.held[i];

		print_error("page %llu is held, reason %d, due in %lld us\n",
			    (unsigned long long)page_of(run, h->fault.addr), (int)h->reason,
			    (long long)(h->fault.not_before_ns - fln_now_ns()) / 1000);
	}
	fail_msg("threads wait for ever: %u of %u, %u faults are held",
		 FAKE_MAX_THREADS - fake_count(&r->fake, FAKE_IDLE), FAKE_MAX_THREADS,
		 r->worker.nr_held);
}

static void choose_opts(struct rng *rng, struct rig_opts *o)
{
	static const uint32_t windows[] = { 1, 8, 16, 64, 512 };

	*o = (struct rig_opts){
		.nr_pages = NR_PAGES,
		.lead_pages = rng_below(rng, 2) ? 0 : rng_below(rng, 512),
		.image_page = rng_below(rng, 2) ? 0 : rng_below(rng, 600),
		.batch_max = 1 + rng_below(rng, 64),
		.window = windows[rng_below(rng, 5)],
		.window_max = 512,
		.fill_pages = 1u << rng_below(rng, 7),
		.nr_fills = 1 + rng_below(rng, 40),
		.nr_chunks = 1 + rng_below(rng, 8),
	};
}

static void one_run(uint64_t seed, uint64_t kind)
{
	static const char *const names[NR_KINDS] = { "", ", foreign", ", private" };
	struct run *run = calloc(1, sizeof(*run));
	struct rig_opts opts;

	assert_non_null(run);
	printf("seed %llu%s\n", (unsigned long long)seed, names[kind]);
	run->rng.state = seed;
	run->foreign = kind == 1;
	run->is_private = kind == 2;
	choose_opts(&run->rng, &opts);
	opts.held_max = opts.batch_max + rng_below(&run->rng, 100);
	opts.foreign = run->foreign;
	opts.is_private = run->is_private;
	opts.may_unpoison = true;       /* between a discard's event and its end */
	opts.nr_chunks += kind ? 5 : 0; /* discards must find room, as in region.c */
	run->r = rig_create(&opts);
	for (uint32_t p = 0; p < NR_PAGES; p++) {
		uint64_t image_page = rig_image_page(run->r, p);

		run->page[p].may_contents = true;
		run->bad[p] = rng_below(&run->rng, 50) == 0;
		run->r->bad[image_page] = run->bad[p];
		if (!run->bad[p] && rng_below(&run->rng, 20) == 0) {
			run->r->hole[image_page] = true;
			run->page[p].may_zero = true; /* unless it is pushed first */
		}
	}
	for (uint32_t i = 0; i < NR_STEPS; i++)
		step(run);
	run->r->fake.fail_in = 0;
	drain(run);
	printf("  %u read, %u killed, %llu faults, %llu refaults, %llu put off, "
	       "%llu put back\n",
	       run->nr_read, run->nr_killed,
	       (unsigned long long)rig_count(&run->r->shard.count.faults),
	       (unsigned long long)rig_count(&run->r->shard.count.refaults),
	       (unsigned long long)rig_count(&run->r->shard.count.again),
	       (unsigned long long)rig_count(&run->r->shard.count.held_full));
	rig_destroy(run->r);
	free(run);
}

static uint64_t first_seed;

static void random_runs(void **state)
{
	(void)state;
	for (uint64_t i = 0; i < NR_RUNS; i++)
		one_run(1 + i / NR_KINDS, i % NR_KINDS); /* always the same */
	for (uint64_t i = 0; i < NR_RUNS; i++)
		one_run(first_seed + i / NR_KINDS, i % NR_KINDS);
}

static void one_seed(void **state)
{
	(void)state;
	for (uint64_t kind = 0; kind < NR_KINDS; kind++)
		one_run(first_seed, kind);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(random_runs) };
	const struct CMUnitTest again[] = { cmocka_unit_test(one_seed) };

	first_seed = argc > 1 ? strtoull(argv[1], NULL, 0) : (uint64_t)time(NULL) * 1000;
	if (argc > 1)
		return cmocka_run_group_tests(again, NULL, NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
