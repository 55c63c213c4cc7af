/* SPDX-License-Identifier: MIT */
/* The block map: uniform blocks, chunks and their pool, spans, and what it costs. */
#include "base/blockmap.h"
#include "base/page.h"
#include "base/rcu.h"
#include "engine/region_map.h"

#include "tests/support/cm.h"
#include "tests/support/rng.h"

#include <stdbool.h>
#include <stdio.h>

#define GIB_PAGES (UINT64_C(1) << 18)
#define GIB_BLOCKS (GIB_PAGES / FLN_BLOCK_PAGES)
#define ALL_PRESENT (1u << FLN_PLANE_PRESENT)

static void uniform_blocks(void **state)
{
	struct fln_blockmap map;
	struct fln_mask m;

	(void)state;
	assert_int_equal(fln_blockmap_init(&map, 0, 1024, 2, 0), 0);
	assert_int_equal(map.nr_blocks, 2);
	assert_int_equal(fln_blockmap_uniform(&map, 0), 0);
	assert_true(fln_blockmap_swap_uniform(&map, 0, 0, 5));
	assert_false(fln_blockmap_swap_uniform(&map, 0, 0, 5));
	assert_int_equal(fln_blockmap_uniform(&map, 0), 5);
	for (uint32_t p = 0; p < FLN_MAP_PLANES; p++) {
		m = fln_blockmap_load(&map, p, 0);
		assert_int_equal(fln_mask_count(&m), p == 0 || p == 2 ? FLN_BLOCK_PAGES : 0);
	}
	/* There and back again: 0 has two spellings in a slot. */
	assert_true(fln_blockmap_swap_uniform(&map, 0, 5, 0));
	assert_true(fln_blockmap_swap_uniform(&map, 0, 0, 3));
	assert_null(fln_blockmap_peek(&map, 0));
	fln_blockmap_deinit(&map);

	assert_int_equal(fln_blockmap_init(&map, 0, 1024, 2, 2), 0);
	assert_int_equal(fln_blockmap_uniform(&map, 1), 2);
	fln_blockmap_deinit(&map);
}

static void a_chunk_takes_over_what_was_uniform(void **state)
{
	struct fln_mask bits = fln_mask_range(10, 20), m;
	struct fln_blockmap map;
	struct fln_chunk *c;

	(void)state;
	assert_int_equal(fln_blockmap_init(&map, 0, 512, 2, 2), 0);
	fln_rcu_read_lock();
	c = fln_blockmap_chunk(&map, 0);
	assert_non_null(c);
	assert_ptr_equal(fln_blockmap_chunk(&map, 0), c);
	assert_ptr_equal(fln_blockmap_peek(&map, 0), c);
	assert_int_equal(fln_blockmap_uniform(&map, 0), -1);
	m = fln_chunk_load(c, 1);
	assert_int_equal(fln_mask_count(&m), 512);
	m = fln_chunk_load(c, 0);
	assert_true(fln_mask_empty(&m));
	m = fln_chunk_set(c, 0, &bits);
	assert_int_equal(fln_mask_count(&m), 10);
	m = fln_chunk_set(c, 0, &bits);
	assert_true(fln_mask_empty(&m));
	fln_chunk_clear(c, 0, &bits);
	m = fln_blockmap_load(&map, 0, 0);
	assert_true(fln_mask_empty(&m));
	fln_rcu_read_unlock();
	fln_blockmap_deinit(&map);
}

static void the_pool_runs_out_and_comes_back(void **state)
{
	struct fln_blockmap map;
	struct fln_chunk *c[3];
	uint64_t before;

	(void)state;
	assert_int_equal(fln_blockmap_init(&map, 0, 4 * FLN_BLOCK_PAGES, 3, 0), 0);
	before = fln_blockmap_bytes(&map);
	for (int round = 0; round < 5; round++) {
		fln_rcu_read_lock();
		for (uint64_t b = 0; b < 3; b++) {
			c[b] = fln_blockmap_chunk(&map, b);
			assert_non_null(c[b]);
		}
		assert_null(fln_blockmap_chunk(&map, 3));
		assert_int_equal(fln_blockmap_uniform(&map, 3), 0);
		assert_int_equal(fln_blockmap_bytes(&map), before + 3 * sizeof(struct fln_chunk));
		for (uint64_t b = 0; b < 3; b++)
			assert_true(fln_blockmap_collapse(&map, b, c[b], ALL_PRESENT));
		/* Not twice, and not for a chunk that is not in the slot. */
		assert_false(fln_blockmap_collapse(&map, 0, c[0], 0));
		fln_rcu_read_unlock();
		fln_blockmap_drain(&map);
		assert_int_equal(fln_blockmap_bytes(&map), before);
		assert_int_equal(fln_blockmap_uniform(&map, 2), ALL_PRESENT);
		for (uint64_t b = 0; b < 3; b++)
			assert_true(fln_blockmap_swap_uniform(&map, b, ALL_PRESENT, 0));
	}
	fln_blockmap_deinit(&map);
}

static void a_map_need_not_begin_or_end_at_a_block(void **state)
{
	struct fln_blockmap map;
	struct fln_mask m;

	(void)state;
	assert_int_equal(fln_blockmap_init(&map, 500, 30, 2, 0), 0);
	assert_int_equal(map.nr_blocks, 2);
	m = fln_blockmap_valid(&map, 0);
	assert_int_equal(fln_mask_next_set(&m, 0), 500);
	assert_int_equal(fln_mask_count(&m), 12);
	m = fln_blockmap_valid(&map, 1);
	assert_int_equal(fln_mask_count(&m), 18);
	assert_true(fln_mask_test(&m, 0));
	fln_blockmap_deinit(&map);

	assert_int_equal(fln_blockmap_init(&map, 3, 1, 1, 0), 0);
	m = fln_blockmap_valid(&map, 0);
	assert_int_equal(fln_mask_count(&m), 1);
	assert_true(fln_mask_test(&m, 3));
	fln_blockmap_deinit(&map);
}

/* A span is what the blocks say, page by page, cut off where the map is. */
static void spans(void **state)
{
	enum {
		LEAD = 77,
		PAGES = 3 * 512 - 77 - 33,
		ALL = 3 * 512
	};
	struct rng rng = { .state = 3 };
	struct fln_blockmap map;
	bool model[ALL] = { false };

	(void)state;
	assert_int_equal(fln_blockmap_init(&map, LEAD, PAGES, 3, 0), 0);
	fln_rcu_read_lock();
	assert_true(fln_blockmap_swap_uniform(&map, 1, 0, ALL_PRESENT));
	for (uint32_t i = 0; i < ALL; i++) {
		struct fln_mask one = fln_mask_range(i % 512, i % 512 + 1);

		model[i] = i / 512 == 1 || rng_below(&rng, 3) == 0;
		if (i / 512 != 1 && model[i])
			(void)fln_chunk_set(fln_blockmap_chunk(&map, i / 512), FLN_PLANE_PRESENT,
					    &one);
		if (i < LEAD || i >= LEAD + PAGES)
			model[i] = false;
	}
	for (uint32_t round = 0; round < 4000; round++) {
		uint32_t page = rng_below(&rng, ALL + 600), nr = rng_below(&rng, 513);
		struct fln_mask m = fln_blockmap_load_span(&map, FLN_PLANE_PRESENT, page, nr);

		for (uint32_t i = 0; i < 512; i++)
			assert_int_equal(fln_mask_test(&m, i),
					 i < nr && page + i < ALL && model[page + i]);
	}
	fln_rcu_read_unlock();
	fln_blockmap_deinit(&map);
}

static void make_present(struct fln_blockmap *map, uint64_t block, const struct fln_mask *pages)
{
	struct fln_chunk *c = fln_blockmap_chunk(map, block);
	struct fln_mask mine;

	assert_non_null(c);
	mine = fln_region_claim(c, pages);
	fln_region_settle(c, &mine, FLN_PAGE_PRESENT);
	(void)fln_region_collapse(map, block, c);
}

/* What the page-state map of 1 GiB costs at three moments of its life. */
static void what_a_gibibyte_costs(void **state)
{
	uint64_t untouched, half, whole;
	struct rng rng = { .state = 4 };
	struct fln_blockmap map;

	(void)state;
	assert_int_equal(fln_blockmap_init(&map, 0, GIB_PAGES, GIB_BLOCKS + 8, 0), 0);
	untouched = fln_blockmap_bytes(&map);
	fln_rcu_read_lock();
	for (uint64_t b = 0; b < GIB_BLOCKS; b++) {
		struct fln_mask pages;

		for (uint32_t i = 0; i < FLN_MASK_WORDS; i++)
			pages.w[i] = rng_next(&rng);
		make_present(&map, b, &pages);
	}
	fln_rcu_read_unlock();
	half = fln_blockmap_bytes(&map);
	fln_rcu_read_lock();
	for (uint64_t b = 0; b < GIB_BLOCKS; b++) {
		struct fln_mask pages = fln_mask_range(0, FLN_BLOCK_PAGES);

		make_present(&map, b, &pages);
	}
	fln_rcu_read_unlock();
	fln_blockmap_drain(&map);
	whole = fln_blockmap_bytes(&map);
	printf("page-state map of 1 GiB: untouched %llu bytes, half present at random %llu bytes, "
	       "whole %llu bytes (%llu per 2 MiB)\n",
	       (unsigned long long)untouched, (unsigned long long)half, (unsigned long long)whole,
	       (unsigned long long)(whole / GIB_BLOCKS));
	assert_true(untouched <= 64 * GIB_BLOCKS);
	assert_true(half <= 512 * GIB_BLOCKS);
	assert_true(whole <= 64 * GIB_BLOCKS);
	for (uint64_t b = 0; b < GIB_BLOCKS; b++)
		assert_int_equal(fln_blockmap_uniform(&map, b), ALL_PRESENT);
	fln_blockmap_deinit(&map);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(uniform_blocks),
		cmocka_unit_test(a_chunk_takes_over_what_was_uniform),
		cmocka_unit_test(the_pool_runs_out_and_comes_back),
		cmocka_unit_test(a_map_need_not_begin_or_end_at_a_block),
		cmocka_unit_test(spans),
		cmocka_unit_test(what_a_gibibyte_costs),
	};
	bool entered = fln_rcu_enter();
	int rc = cmocka_run_group_tests(tests, NULL, NULL);

	fln_rcu_leave(entered);
	return rc;
}
