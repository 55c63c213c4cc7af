/* SPDX-License-Identifier: MIT */
/* Turns: one call at a time, each gets its turn, and a unit that needs one notices its absence. */
#include "engine/turn.h"

#include "base/lock.h"
#include "engine/state/guest.h"

#include "tests/support/cm.h"
#include "tests/support/death.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>

#define NR_THREADS 6u
#define NR_TURNS 500u

static struct fln_guest guest;
static _Atomic uint32_t nr_inside, nr_turns;
static _Atomic bool met;

static void setup_guest(void)
{
	fln_lock_init(&guest.lock, FLN_RANK_GUEST);
	fln_turn_init(&guest.turn);
}

static void drop_guest(void)
{
	fln_turn_deinit(&guest.turn);
	fln_lock_deinit(&guest.lock);
}

static void *take_turns(void *arg)
{
	(void)arg;
	for (uint32_t i = 0; i < NR_TURNS; i++) {
		fln_guest_take_turn(&guest);
		if (atomic_fetch_add(&nr_inside, 1) > 0)
			atomic_store(&met, true);
		(void)sched_yield();
		fln_guest_assert_turn(&guest);
		atomic_fetch_sub(&nr_inside, 1);
		atomic_fetch_add(&nr_turns, 1);
		fln_guest_give_turn(&guest);
	}
	return NULL;
}

/* A turn that is given to nobody is a test that does not end. */
static void one_at_a_time_and_all_of_them(void **state)
{
	pthread_t threads[NR_THREADS];

	(void)state;
	setup_guest();
	for (uint32_t i = 0; i < NR_THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, take_turns, NULL), 0);
	for (uint32_t i = 0; i < NR_THREADS; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	assert_false(met);
	assert_int_equal(nr_turns, NR_THREADS * NR_TURNS);
	drop_guest();
}

static void assert_turn(void *arg)
{
	fln_guest_assert_turn(arg);
}

static void out_of_turn(void **state)
{
	(void)state;
	setup_guest();
	assert_true(aborts(assert_turn, &guest));
	fln_guest_take_turn(&guest);
	assert_false(aborts(assert_turn, &guest));
	fln_guest_give_turn(&guest);
	assert_true(aborts(assert_turn, &guest));
	drop_guest();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_at_a_time_and_all_of_them),
		cmocka_unit_test(out_of_turn),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
