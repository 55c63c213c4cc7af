/* SPDX-License-Identifier: MIT */
/* The plan of touches: every chosen page once, by one thread, as seeded. */
#include "measure/order.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static int init(struct measure_plan *plan, uint64_t total, uint32_t density, uint32_t threads,
		bool shuffled, bool mixed, uint64_t seed)
{
	const struct measure_plan_opts opts = {
		.total_pages = total,
		.density = density,
		.nr_threads = threads,
		.shuffled = shuffled,
		.mixed = mixed,
		.seed = seed,
	};

	return measure_plan_init(plan, &opts);
}

static void check_plan(uint64_t total, uint32_t density, uint32_t threads, bool shuffled,
		       bool mixed)
{
	struct measure_plan plan;
	uint64_t at = 0, owned = 0, end = 0;

	assert_int_equal(init(&plan, total, density, threads, shuffled, mixed, 7), 0);
	assert_int_equal(plan.nr_pages, total / density ? total / density : 1);
	for (uint32_t t = 0; t < threads; t++) {
		uint64_t lo, hi;

		measure_plan_slice(&plan, t, &lo, &hi);
		assert_int_equal(lo, at); /* slices meet: no page is left out */
		for (uint64_t first = at, part = end; at < hi; at++) {
			if (!shuffled && at > first)
				assert_true(plan.pages[at - 1] < plan.pages[at]);
			/* A part of one's own lies behind those of the threads before. */
			if (!mixed)
				assert_true(plan.pages[at] >= part);
			if (plan.pages[at] >= end)
				end = plan.pages[at] + 1;
			assert_true(plan.pages[at] < total);
			/* An owner that is ours was not overwritten: the page is there once. */
			assert_int_equal(plan.owners[plan.pages[at]], t + 1);
		}
	}
	assert_int_equal(at, plan.nr_pages);
	for (uint64_t page = 0; page < total; page++)
		owned += plan.owners[page] != 0;
	assert_int_equal(owned, plan.nr_pages);
	measure_plan_deinit(&plan);
}

static void every_chosen_page_once(void **state)
{
	static const uint64_t totals[] = { 1, 2, 511, 4096, 10007 };
	static const uint32_t densities[] = { 1, 2, 8, 64, 512, 100000 };
	static const uint32_t threads[] = { 1, 3, 200 };

	(void)state;
	for (size_t i = 0; i < sizeof(totals) / sizeof(totals[0]); i++)
		for (size_t j = 0; j < sizeof(densities) / sizeof(densities[0]); j++)
			for (size_t k = 0; k < sizeof(threads) / sizeof(threads[0]); k++) {
				for (int kind = 0; kind < 4; kind++)
					check_plan(totals[i], densities[j], threads[k], kind & 1,
						   kind & 2);
			}
}

static void seed_decides(void **state)
{
	struct measure_plan a, b, c;
	size_t bytes = 1000 * sizeof(a.pages[0]);

	(void)state;
	assert_int_equal(init(&a, 8000, 8, 4, true, true, 1), 0);
	assert_int_equal(init(&b, 8000, 8, 4, true, true, 1), 0);
	assert_int_equal(init(&c, 8000, 8, 4, true, true, 2), 0);
	assert_int_equal(a.nr_pages, 1000);
	assert_int_equal(memcmp(a.pages, b.pages, bytes), 0);
	assert_int_not_equal(memcmp(a.pages, c.pages, bytes), 0);
	measure_plan_deinit(&a);
	measure_plan_deinit(&b);
	measure_plan_deinit(&c);
}

static void sample_is_spread(void **state)
{
	struct measure_plan plan;
	uint64_t half = 0;

	(void)state;
	assert_int_equal(init(&plan, 100000, 10, 1, false, false, 3), 0);
	for (uint64_t i = 0; i < plan.nr_pages; i++)
		half += plan.pages[i] < 50000;
	assert_in_range(half, 4700, 5300); /* six standard deviations */
	measure_plan_deinit(&plan);
}

/* Dealt in ascending order: neighbours go to different threads. */
static void dealt_like_cards(void **state)
{
	struct measure_plan plan;

	(void)state;
	assert_int_equal(init(&plan, 4096, 1, 8, false, true, 1), 0);
	for (uint64_t page = 0; page < 4096; page++)
		assert_int_equal(plan.owners[page], page % 8 + 1);
	measure_plan_deinit(&plan);
}

static void check_phases(uint64_t total, uint32_t density, uint32_t threads, uint32_t nr_phases)
{
	const struct measure_plan_opts opts = {
		.total_pages = total,
		.density = density,
		.nr_threads = threads,
		.nr_phases = nr_phases,
		.shuffled = true,
		.mixed = true,
		.seed = 5,
	};
	struct measure_plan plan;
	uint64_t sum = 0;

	assert_int_equal(measure_plan_init(&plan, &opts), 0);
	for (uint32_t phase = 0; phase < nr_phases; phase++) {
		struct measure_plan touched;
		uint64_t owned = 0, pages = measure_plan_phase_pages(&plan, phase);

		sum += pages;
		/* Each thread's share is even but for one page. */
		assert_in_range(pages, plan.nr_pages / nr_phases - threads,
				plan.nr_pages / nr_phases + threads);
		assert_int_equal(measure_plan_touched(&touched, &plan, phase), 0);
		assert_int_equal(touched.nr_pages, sum);
		for (uint32_t t = 0; t < threads; t++) {
			uint64_t lo, hi;

			measure_plan_phase_slice(&plan, t, phase, &lo, &hi);
			for (; lo < hi; lo++)
				assert_int_equal(touched.owners[plan.pages[lo]], t + 1);
		}
		for (uint64_t page = 0; page < total; page++) {
			owned += touched.owners[page] != 0;
			assert_true(touched.owners[page] == 0 ||
				    touched.owners[page] == plan.owners[page]);
		}
		/* None that is touched later. */
		assert_int_equal(owned, sum);
		measure_plan_deinit(&touched);
	}
	assert_int_equal(sum, plan.nr_pages);
	measure_plan_deinit(&plan);
}

static void phases_share_the_pages(void **state)
{
	(void)state;
	check_phases(4096, 1, 3, 1);
	check_phases(4096, 1, 3, 2);
	check_phases(10007, 8, 200, 2);
	check_phases(10007, 8, 200, 5);
}

static void tokens_differ(void **state)
{
	struct measure_plan plan = { .seed = 1 };

	(void)state;
	assert_true(measure_plan_token(&plan, 0, 0) != 0);
	assert_true(measure_plan_token(&plan, 5, 1) != measure_plan_token(&plan, 5, 2));
	assert_true(measure_plan_token(&plan, 5, 1) != measure_plan_token(&plan, 6, 1));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_chosen_page_once), cmocka_unit_test(seed_decides),
		cmocka_unit_test(sample_is_spread),       cmocka_unit_test(dealt_like_cards),
		cmocka_unit_test(phases_share_the_pages), cmocka_unit_test(tokens_differ),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
