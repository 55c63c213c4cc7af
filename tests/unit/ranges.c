/* SPDX-License-Identifier: MIT */
/* Lists of ranges (engine/ranges.c), against an array that has a cell for each address. */
#include "engine/ranges.h"

#include "base/alloc.h"
#include "engine/state/advised.h"
#include "engine/state/engine.h"
#include "engine/state/guest.h"
#include "tests/support/cm.h"
#include "tests/support/rng.h"

#include <stdint.h>
#include <string.h>

#define NR_CELLS 48u
#define NR_KINDS 3u /* 0: nothing */
#define NR_STEPS 2000u

static struct fln_engine engine;
static struct fln_guest guest = { .engine = &engine };

static int set_up(void **state)
{
	(void)state;
	return fln_alloc_init(&engine.alloc, NULL);
}

/* Sorted, apart or of different kinds, and nothing but what the cells say. */
static void assert_is(const struct fln_ranges *ranges, const uint8_t *cells)
{
	uint8_t said[NR_CELLS] = { 0 };

	for (uint32_t i = 0; ranges && i < ranges->nr; i++) {
		const struct fln_range *r = &ranges->range[i];

		assert_true(r->addr < r->end && r->end <= NR_CELLS && r->what != 0);
		if (i > 0) {
			assert_true(ranges->range[i - 1].end <= r->addr);
			assert_true(ranges->range[i - 1].end < r->addr ||
				    ranges->range[i - 1].what != r->what);
		}
		memset(said + r->addr, (int)r->what, r->end - r->addr);
	}
	assert_memory_equal(said, cells, NR_CELLS);
}

static void assert_next(const struct fln_ranges *ranges, const uint8_t *cells)
{
	for (uint64_t addr = 0; addr < NR_CELLS; addr++) {
		const struct fln_range *r = fln_ranges_next(ranges, addr);
		uint64_t first = addr;

		while (first < NR_CELLS && cells[first] == 0)
			first++;
		if (first == NR_CELLS) {
			assert_null(r);
			continue;
		}
		assert_non_null(r);
		assert_true(r->addr <= first && first < r->end);
		assert_int_equal(r->what, cells[first]);
	}
}

static void any_changes(void **state)
{
	struct fln_ranges *ranges = NULL;
	uint8_t cells[NR_CELLS] = { 0 };
	struct rng rng = { 1 };

	(void)state;
	for (uint32_t step = 0; step < NR_STEPS; step++) {
		uint32_t addr = rng_below(&rng, NR_CELLS);
		uint32_t end = addr + 1 + rng_below(&rng, NR_CELLS - addr);
		uint32_t what = rng_below(&rng, NR_KINDS);
		struct fln_ranges *old = ranges;

		ranges = fln_ranges_with(&guest, old, addr, end, what);
		assert_non_null(ranges);
		fln_ranges_free(&guest, old);
		memset(cells + addr, (int)what, end - addr);
		assert_is(ranges, cells);
		assert_next(ranges, cells);
	}
	fln_ranges_free(&guest, ranges);
}

/* The list that readers may have is left as it was. */
static void the_old_list_stays(void **state)
{
	uint8_t before[NR_CELLS] = { 0 }, after[NR_CELLS] = { 0 };
	struct fln_ranges *old, *new;

	(void)state;
	memset(before + 10, 1, 20);
	memset(after + 10, 1, 20);
	memset(after + 15, 2, 5);
	old = fln_ranges_with(&guest, NULL, 10, 30, 1);
	new = fln_ranges_with(&guest, old, 15, 20, 2);
	assert_is(old, before);
	assert_is(new, after);
	assert_int_equal(new->nr, 3);
	fln_ranges_free(&guest, old);
	fln_ranges_free(&guest, new);
	fln_ranges_free(&guest, NULL);
	assert_null(fln_ranges_next(NULL, 0));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(any_changes),
		cmocka_unit_test(the_old_list_stays),
	};

	return cmocka_run_group_tests(tests, set_up, NULL);
}
