/* SPDX-License-Identifier: MIT */
/* A crowd: every thread takes every step once, together; what it used is counted. */
#include "measure/clock.h"
#include "measure/crowd.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#define MAX 64u
#define NONE UINT32_MAX

struct steps {
	uint32_t nr;
	uint32_t refuses; /* the thread whose preparation fails */
	_Atomic uint32_t prepared;
	_Atomic uint32_t begun;
	_Atomic uint32_t finished;
	_Atomic uint32_t early; /* steps that began before all had done the one before */
	_Atomic uint32_t ran[MAX];
};

static bool prepare(void *ctx, uint32_t thread)
{
	struct steps *s = ctx;

	atomic_fetch_add(&s->prepared, 1);
	return thread != s->refuses;
}

static void run(void *ctx, uint32_t thread)
{
	const struct timespec nap = { .tv_nsec = 1000000 };
	struct steps *s = ctx;

	if (atomic_load(&s->prepared) != s->nr)
		atomic_fetch_add(&s->early, 1);
	atomic_fetch_add(&s->ran[thread], 1);
	(void)nanosleep(&nap, NULL);
	atomic_fetch_add(&s->begun, 1);
}

static void finish(void *ctx, uint32_t thread)
{
	struct steps *s = ctx;

	(void)thread;
	if (s->refuses == NONE && atomic_load(&s->begun) != s->nr)
		atomic_fetch_add(&s->early, 1);
	atomic_fetch_add(&s->finished, 1);
}

static void run_steps(struct measure_crowd *c, uint32_t nr, uint32_t refuses)
{
	struct steps s = { .nr = nr, .refuses = refuses };
	const struct measure_work work = { prepare, run, finish, &s };
	struct measure_crowd_result r;
	bool ok = measure_crowd_run(c, nr, NULL, &work, &r);

	assert_true(ok == (refuses == NONE));
	assert_int_equal(atomic_load(&s.prepared), nr);
	assert_int_equal(atomic_load(&s.early), 0);
	for (uint32_t i = 0; i < MAX; i++)
		assert_int_equal(atomic_load(&s.ran[i]), ok && i < nr);
	assert_int_equal(atomic_load(&s.finished), ok ? nr : nr - 1);
	if (!ok)
		return;
	assert_true(r.seconds >= 0.001); /* they slept for that long */
	assert_true(r.touchers.cpu_ns > 0);
	assert_true(r.touchers.nr_switches >= nr);
	assert_true(r.to.wall_ns > r.from.wall_ns);
}

/* The same threads, more and fewer of them; those left out do nothing. */
static void every_thread_every_step(void **state)
{
	static const uint32_t numbers[] = { 1, 3, MAX, 2, 17, MAX, 1 };
	struct measure_crowd *c = measure_crowd_create();

	(void)state;
	assert_non_null(c);
	for (int round = 0; round < 5; round++) {
		for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
			run_steps(c, numbers[i], NONE);
	}
	measure_crowd_destroy(c);
}

static void one_that_cannot_stops_all(void **state)
{
	struct measure_crowd *c = measure_crowd_create();

	(void)state;
	assert_non_null(c);
	run_steps(c, 8, 5);
	run_steps(c, 8, NONE);
	measure_crowd_destroy(c);
}

static void processors_that_are_not_there(void **state)
{
	struct steps s = { .nr = 1, .refuses = NONE };
	const struct measure_work work = { prepare, run, finish, &s };
	struct measure_crowd *c = measure_crowd_create();
	struct measure_crowd_result r;

	(void)state;
	assert_non_null(c);
	assert_false(measure_crowd_run(c, 1, "8191", &work, &r));
	assert_int_equal(atomic_load(&s.prepared), 0);
	measure_crowd_destroy(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_thread_every_step),
		cmocka_unit_test(one_that_cannot_stops_all),
		cmocka_unit_test(processors_that_are_not_there),
	};

	measure_clock_init();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
