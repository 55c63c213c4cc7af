/* SPDX-License-Identifier: MIT */
/* Which images have changed: nothing is lost between those that tell and the one that takes. */
#include "sources/changed.h"

#include "base/clock.h"
#include "tests/support/cm.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>

#define NR_TELLERS 3u
#define NR_TOLD 20000u /* by each */
#define LIMIT_NS (60 * FLN_NS_PER_S)

static struct {
	struct fln_changed changed;
	_Atomic bool kicked;
	_Atomic uint32_t nr_done;
	/* By set: what has been told of it, and what the taker had seen told when it took it. */
	_Atomic uint32_t told[FLN_NR_CHANGES][FLN_NR_IMAGE_SETS];
	_Atomic uint32_t seen[FLN_NR_CHANGES][FLN_NR_IMAGE_SETS];
} t;

static void *tell_main(void *arg)
{
	uint32_t seed = (uint32_t)(uintptr_t)arg;

	for (uint32_t i = 0; i < NR_TOLD; i++) {
		uint32_t what, set, told;
		uint64_t until;

		seed = seed * 1664525u + 1013904223u;
		/* Few sets, of few words: tellers and the taker meet. */
		set = (seed >> 24) % 8 * 31;
		what = (seed >> 20) % FLN_NR_CHANGES;
		told = atomic_fetch_add_explicit(&t.told[what][set], 1, memory_order_relaxed) + 1;
		fln_changed_set(&t.changed, what, set);
		atomic_store_explicit(&t.kicked, true, memory_order_release);
		if (i % 16)
			continue;
		/* No other kick is needed for it to be seen. */
		until = fln_now_ns() + LIMIT_NS;
		while (atomic_load(&t.seen[what][set]) < told) {
			if (fln_now_ns() > until)
				fail_msg("change %u of set %u was told and is not seen", what, set);
			(void)sched_yield();
		}
	}
	(void)atomic_fetch_add(&t.nr_done, 1);
	return NULL;
}

static void see(void *ctx, enum fln_change what, uint32_t set)
{
	(void)ctx;
	atomic_store(&t.seen[what][set],
		     atomic_load_explicit(&t.told[what][set], memory_order_relaxed));
}

static void what_is_told_is_taken(void **state)
{
	pthread_t threads[NR_TELLERS];

	(void)state;
	for (uint32_t i = 0; i < NR_TELLERS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, tell_main,
						(void *)(uintptr_t)(i + 1)),
				 0);
	while (atomic_load(&t.nr_done) < NR_TELLERS) {
		/* As a worker: nothing is looked at that nobody has kicked it for. */
		if (atomic_exchange(&t.kicked, false))
			fln_changed_take(&t.changed, NULL, see);
		else
			(void)sched_yield();
	}
	for (uint32_t i = 0; i < NR_TELLERS; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	fln_changed_take(&t.changed, NULL, see);
	for (uint32_t i = 0; i < FLN_NR_CHANGES * FLN_NR_IMAGE_SETS; i++)
		assert_int_equal(t.seen[i / FLN_NR_IMAGE_SETS][i % FLN_NR_IMAGE_SETS],
				 t.told[i / FLN_NR_IMAGE_SETS][i % FLN_NR_IMAGE_SETS]);
}

static void take_down(void *ctx, enum fln_change what, uint32_t set)
{
	uint32_t *got = ctx;

	got[0]++;
	got[1] = (uint32_t)what;
	got[2] = set;
}

static void each_is_taken_once_and_as_it_was_told(void **state)
{
	static struct fln_changed c;

	(void)state;
	for (uint32_t i = 0; i < FLN_NR_CHANGES * FLN_NR_IMAGE_SETS; i++) {
		uint32_t got[3] = { 0 };

		fln_changed_set(&c, i / FLN_NR_IMAGE_SETS, i % FLN_NR_IMAGE_SETS);
		fln_changed_set(&c, i / FLN_NR_IMAGE_SETS, i % FLN_NR_IMAGE_SETS);
		fln_changed_take(&c, got, take_down);
		assert_int_equal(got[0], 1);
		assert_int_equal(got[1], i / FLN_NR_IMAGE_SETS);
		assert_int_equal(got[2], i % FLN_NR_IMAGE_SETS);
		fln_changed_take(&c, got, take_down);
		assert_int_equal(got[0], 1);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_is_taken_once_and_as_it_was_told),
		cmocka_unit_test(what_is_told_is_taken),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
