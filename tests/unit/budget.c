/* SPDX-License-Identifier: MIT */
/* The budget of mappings: it is kept, also when many take from it at once. */
#include "engine/budget.h"

#include "engine/state/engine.h"

#include "tests/support/cm.h"
#include "tests/support/death.h"

#include <errno.h>
#include <faultlane/base.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#define NR_THREADS 4u
#define NR_TURNS 20000u

static struct fln_engine engine;
static _Atomic uint64_t nr_taken;
static _Atomic bool over;

static void begin(uint32_t max_stripes)
{
	memset(&engine, 0, sizeof(engine));
	engine.opts.max_stripes = max_stripes;
}

static void all_of_it_and_no_more(void **state)
{
	(void)state;
	begin(10);
	assert_int_equal(fln_engine_stripes_left(&engine), 10);
	assert_int_equal(fln_engine_take_stripes(&engine, 7), 0);
	assert_int_equal(fln_engine_stripes_left(&engine), 3);
	assert_int_equal(fln_engine_take_stripes(&engine, 4), -ENOMEM);
	assert_non_null(strstr(fln_last_error(), "max_stripes"));
	assert_int_equal(fln_engine_stripes_left(&engine), 3);
	assert_int_equal(fln_engine_take_stripes(&engine, 3), 0);
	assert_int_equal(fln_engine_stripes_left(&engine), 0);
	assert_int_equal(fln_engine_take_stripes(&engine, 0), 0);
	assert_int_equal(fln_engine_take_stripes(&engine, 1), -ENOMEM);
	fln_engine_give_back_stripes(&engine, 10);
	assert_int_equal(fln_engine_take_stripes(&engine, 10), 0);
}

static void give_back_too_much(void *nr)
{
	fln_engine_give_back_stripes(&engine, *(uint64_t *)nr);
}

static void more_than_was_taken_is_a_bug(void **state)
{
	uint64_t as_taken = 3, more = 4;

	(void)state;
	begin(10);
	assert_int_equal(fln_engine_take_stripes(&engine, 3), 0);
	assert_false(aborts(give_back_too_much, &as_taken));
	assert_true(aborts(give_back_too_much, &more));
}

static void *take_and_give_back(void *arg)
{
	(void)arg;
	for (uint32_t i = 0; i < NR_TURNS; i++) {
		uint64_t nr = 1 + i % 3;

		if (fln_engine_take_stripes(&engine, nr))
			continue;
		if (atomic_fetch_add(&nr_taken, nr) + nr > engine.opts.max_stripes)
			atomic_store(&over, true);
		atomic_fetch_sub(&nr_taken, nr);
		fln_engine_give_back_stripes(&engine, nr);
	}
	return NULL;
}

static void many_at_once(void **state)
{
	pthread_t threads[NR_THREADS];

	(void)state;
	begin(5);
	for (uint32_t i = 0; i < NR_THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, take_and_give_back, NULL), 0);
	for (uint32_t i = 0; i < NR_THREADS; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	assert_false(over);
	assert_int_equal(fln_engine_stripes_left(&engine), 5);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_of_it_and_no_more),
		cmocka_unit_test(more_than_was_taken_is_a_bug),
		cmocka_unit_test(many_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
