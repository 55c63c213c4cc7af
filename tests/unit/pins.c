/* SPDX-License-Identifier: MIT */
/*
 * Pins: the guest that is wanted gets one, and a thread that waits for a guest's last pin is woken
 * when that is taken off.
 */
#include "engine/life/pins.h"

#include "base/clock.h"
#include "base/lock.h"
#include "engine/state/engine.h"
#include "engine/state/guest.h"

#include "tests/support/cm.h"

#include <pthread.h>
#include <stdbool.h>

static struct fln_engine engine;
static struct fln_guest guest;
static bool waits; /* guarded by engine.lock */

/* As the end of a guest does. */
static void *wait_for_it(void *arg)
{
	uint64_t deadline_ns = fln_now_ns() + 20 * FLN_NS_PER_S;
	bool in_time = true;

	(void)arg;
	fln_lock(&engine.lock);
	waits = true;
	while (guest.nr_pins > 0 && in_time)
		in_time = fln_cond_wait_until(&engine.unpinned, &engine.lock, deadline_ns);
	fln_unlock(&engine.lock);
	return in_time ? &guest : NULL;
}

static void wait_until_it_waits(void)
{
	bool does = false;

	while (!does) {
		fln_sleep_ns(FLN_NS_PER_MS);
		fln_lock(&engine.lock);
		does = waits;
		fln_unlock(&engine.lock);
	}
}

static void the_last_pin_lets_the_guest_go(void **state)
{
	pthread_t thread;
	void *woken = NULL;

	(void)state;
	fln_lock_init(&engine.lock, FLN_RANK_ENGINE);
	fln_cond_init(&engine.unpinned);
	guest.nr_pins = 2;
	assert_int_equal(pthread_create(&thread, NULL, wait_for_it, NULL), 0);
	wait_until_it_waits();
	fln_engine_unpin(&engine, &guest);
	assert_int_equal(guest.nr_pins, 1);
	fln_engine_unpin(&engine, &guest);
	assert_int_equal(pthread_join(thread, &woken), 0);
	assert_ptr_equal(woken, &guest);
	assert_int_equal(guest.nr_pins, 0);
	assert_int_equal(pthread_cond_destroy(&engine.unpinned), 0);
	fln_lock_deinit(&engine.lock);
}

static bool is_the_one(struct fln_guest *g, void *ctx)
{
	return g == ctx;
}

static void the_guest_that_is_wanted_is_pinned(void **state)
{
	struct fln_guest second = { .next = NULL }, first = { .next = &second };

	(void)state;
	fln_lock_init(&engine.lock, FLN_RANK_ENGINE);
	fln_cond_init(&engine.unpinned);
	engine.guests = &first;
	assert_ptr_equal(fln_engine_pin(&engine, is_the_one, &second), &second);
	assert_int_equal(first.nr_pins, 0);
	assert_int_equal(second.nr_pins, 1);
	assert_null(fln_engine_pin(&engine, is_the_one, NULL));
	fln_engine_unpin(&engine, &second);
	assert_int_equal(second.nr_pins, 0);
	engine.guests = NULL;
	assert_int_equal(pthread_cond_destroy(&engine.unpinned), 0);
	fln_lock_deinit(&engine.lock);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_last_pin_lets_the_guest_go),
		cmocka_unit_test(the_guest_that_is_wanted_is_pinned),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
