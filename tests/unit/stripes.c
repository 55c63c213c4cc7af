/* SPDX-License-Identifier: MIT */
/* The stripe plan: properties over many random regions, and the edges by hand. */
#include "sharding/stripes.h"
#include "base/clock.h"

#include <faultlane/base.h>

#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define NR_PLANS 3000u
#define NR_SAMPLES 64u
#define TIB (UINT64_C(1) << 40)

static uint64_t seed;

/* xorshift64*: the same sequence everywhere for a seed that is not zero. */
static uint64_t next_random(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * UINT64_C(2685821657736338717);
}

static uint64_t random_below(uint64_t *state, uint64_t limit)
{
	return next_random(state) % limit;
}

struct request {
	uint64_t addr;
	uint64_t len_bytes;
	uint64_t max_stripes;
	uint32_t nr_shards;
	uint32_t first_shard;
};

/* 1 to 2^max_shift, spread over the powers of two, so that all sizes get their share. */
static uint64_t random_size(uint64_t *state, uint32_t max_shift)
{
	uint64_t limit = UINT64_C(1) << random_below(state, max_shift + 1);

	return 1 + random_below(state, limit);
}

static struct request random_request(uint64_t *state)
{
	struct request r;

	r.addr = fln_pages_to_bytes(random_below(state, UINT64_C(1) << 35));
	r.len_bytes = fln_pages_to_bytes(random_size(state, 32));
	r.max_stripes = random_size(state, 14);
	r.nr_shards = (uint32_t)random_size(state, 10);
	r.first_shard = (uint32_t)next_random(state);
	if (random_below(state, 4) == 0)
		r.addr = fln_align_down(r.addr, FLN_BLOCK_BYTES);
	return r;
}

static void plan_of(struct fln_stripe_plan *plan, const struct request *r)
{
	int rc = fln_stripe_plan_init(plan, r->addr, r->len_bytes, r->nr_shards, r->first_shard,
				      r->max_stripes);

	if (rc)
		print_message("addr 0x%" PRIx64 " len %" PRIu64 " shards %" PRIu32 ": %s\n",
			      r->addr, r->len_bytes, r->nr_shards, fln_last_error());
	assert_int_equal(rc, 0);
}

/* How many stripes of @size cover @span. */
static uint64_t nr_for(uint64_t span, uint64_t size)
{
	return (span + size - 1) / size;
}

/* Both ends are fine, the middle takes the smallest size that is left for it. */
static void check_three_parts(const struct fln_stripe_plan *plan, const struct request *r,
			      uint64_t span)
{
	uint64_t fine = UINT64_C(1) << FLN_STRIPE_FINE_SHIFT;
	uint64_t size = UINT64_C(1) << plan->stripe_shift;
	uint64_t middle = plan->tail_offset - plan->nr_head * fine;

	assert_true(nr_for(span, UINT64_C(1) << FLN_STRIPE_COARSE_SHIFT) > r->max_stripes);
	assert_int_equal(plan->nr_head, r->max_stripes / 4);
	assert_true(plan->nr_stripes - plan->tail_index >= plan->nr_head - 1);
	assert_int_equal(plan->nr_stripes - plan->tail_index,
			 nr_for(span - plan->tail_offset, fine));
	assert_int_equal(plan->tail_index - plan->nr_head, nr_for(middle, size));
	assert_true(nr_for(middle, size / 2) > r->max_stripes - 2 * (r->max_stripes / 4));
}

static void check_size(const struct fln_stripe_plan *plan, const struct request *r)
{
	uint64_t size = UINT64_C(1) << plan->stripe_shift;
	uint64_t span = r->addr + r->len_bytes - plan->base_addr;

	assert_true(size >= FLN_BLOCK_BYTES);
	assert_true(plan->nr_stripes >= 1);
	assert_true(plan->nr_stripes <= r->max_stripes);
	if (r->nr_shards == 1)
		assert_int_equal(plan->nr_stripes, 1);
	if (plan->nr_head > 0) {
		check_three_parts(plan, r, span);
		return;
	}
	assert_int_equal(plan->nr_stripes, nr_for(span, size));
	assert_int_equal(plan->tail_index, plan->nr_stripes);
	if (r->nr_shards > 1 && size > FLN_BLOCK_BYTES) /* a smaller stripe would not have done */
		assert_true(nr_for(span, size / 2) > r->max_stripes);
	if (r->nr_shards > 1 && r->max_stripes >= 64)
		assert_true(plan->stripe_shift <= FLN_STRIPE_COARSE_SHIFT);
}

/* Stripes lie end to end, begin on blocks, and no shard has two more than another. */
static void check_tiling(const struct fln_stripe_plan *plan, const struct request *r)
{
	static uint64_t nr_of[FLN_STRIPE_SHARDS_MAX];
	uint64_t at = r->addr;
	uint64_t addr, len, least = UINT64_MAX, most = 0;
	uint64_t i;
	uint32_t shard;

	memset(nr_of, 0, sizeof(nr_of));
	for (i = 0; fln_stripe_get(plan, i, &addr, &len, &shard); i++) {
		assert_int_equal(addr, at);
		assert_true(len > 0);
		assert_true(fln_is_aligned(len, FLN_PAGE_BYTES));
		if (i > 0)
			assert_true(fln_is_aligned(addr, FLN_BLOCK_BYTES));
		assert_true(shard < r->nr_shards);
		assert_int_equal(shard, (r->first_shard % r->nr_shards + i) % r->nr_shards);
		nr_of[shard]++;
		at += len;
		assert_int_equal(fln_stripe_index(plan, addr), i);
		assert_int_equal(fln_stripe_index(plan, at - 1), i);
		assert_int_equal(fln_stripe_shard(plan, addr), shard);
		assert_int_equal(fln_stripe_shard(plan, at - 1), shard);
	}
	assert_int_equal(i, plan->nr_stripes);
	assert_int_equal(at, r->addr + r->len_bytes);
	for (uint32_t s = 0; s < r->nr_shards; s++) {
		least = nr_of[s] < least ? nr_of[s] : least;
		most = nr_of[s] > most ? nr_of[s] : most;
	}
	assert_true(most - least <= 1);
}

/* An address anywhere, and a window around it that may leave the region. */
static void check_clip(const struct fln_stripe_plan *plan, const struct request *r, uint64_t *state)
{
	uint64_t addr = r->addr + random_below(state, r->len_bytes);
	uint64_t lo = addr - random_below(state, addr + 1) % (8 * FLN_BLOCK_BYTES);
	uint64_t hi = addr + 1 + random_below(state, 8 * FLN_BLOCK_BYTES);
	uint64_t stripe_addr, stripe_len;
	uint64_t was_lo = lo, was_hi = hi;
	uint32_t shard;

	assert_true(fln_stripe_get(plan, fln_stripe_index(plan, addr), &stripe_addr, &stripe_len,
				   &shard));
	assert_true(stripe_addr <= addr);
	assert_true(addr < stripe_addr + stripe_len);
	assert_int_equal(fln_stripe_shard(plan, addr), shard);

	fln_stripe_clip(plan, addr, &lo, &hi);
	assert_true(lo <= addr);
	assert_true(addr < hi);
	assert_int_equal(lo, was_lo > stripe_addr ? was_lo : stripe_addr);
	assert_int_equal(hi, was_hi < stripe_addr + stripe_len ? was_hi : stripe_addr + stripe_len);
	assert_int_equal(fln_stripe_shard(plan, lo), shard);
	assert_int_equal(fln_stripe_shard(plan, hi - 1), shard);
}

static void test_random_plans(void **unused)
{
	uint64_t state = seed;

	(void)unused;
	for (uint32_t n = 0; n < NR_PLANS; n++) {
		struct request r = random_request(&state);
		struct fln_stripe_plan plan;

		plan_of(&plan, &r);
		check_size(&plan, &r);
		check_tiling(&plan, &r);
		for (uint32_t k = 0; k < NR_SAMPLES; k++)
			check_clip(&plan, &r, &state);
	}
}

/* No page table has two shards: all pages of a block answer alike. */
static void test_block_has_one_shard(void **unused)
{
	struct request r = {
		.addr = 0x7f0000123000,
		.len_bytes = 64 * FLN_BLOCK_BYTES + 5 * FLN_PAGE_BYTES,
		.max_stripes = 1000,
		.nr_shards = 7,
		.first_shard = 3,
	};
	struct fln_stripe_plan plan;
	uint32_t shard = UINT32_MAX;

	(void)unused;
	plan_of(&plan, &r);
	assert_int_equal(plan.stripe_shift, FLN_BLOCK_SHIFT);
	for (uint64_t addr = r.addr; addr < r.addr + r.len_bytes; addr += FLN_PAGE_BYTES) {
		if (addr == r.addr || fln_is_aligned(addr, FLN_BLOCK_BYTES))
			shard = fln_stripe_shard(&plan, addr);
		assert_int_equal(fln_stripe_shard(&plan, addr), shard);
	}
}

static void test_edges(void **unused)
{
	const struct request edges[] = {
		{ .addr = 0, .len_bytes = FLN_PAGE_BYTES, .max_stripes = 1, .nr_shards = 8 },
		{ .addr = FLN_BLOCK_BYTES - FLN_PAGE_BYTES,
		  .len_bytes = 2 * FLN_PAGE_BYTES,
		  .max_stripes = 2,
		  .nr_shards = 2 },
		{ .addr = FLN_BLOCK_BYTES - FLN_PAGE_BYTES,
		  .len_bytes = 2 * FLN_PAGE_BYTES,
		  .max_stripes = 1,
		  .nr_shards = 2 },
		{ .addr = 1 * TIB, .len_bytes = 16 * TIB, .max_stripes = 16384, .nr_shards = 32 },
		{ .addr = 1 * TIB, .len_bytes = 16 * TIB, .max_stripes = 1, .nr_shards = 1024 },
		{ .addr = 1 * TIB,
		  .len_bytes = 16 * TIB,
		  .max_stripes = UINT64_MAX,
		  .nr_shards = 1 },
		{ .addr = 1 * TIB - FLN_PAGE_BYTES,
		  .len_bytes = 16 * TIB,
		  .max_stripes = 16384,
		  .nr_shards = 1000,
		  .first_shard = UINT32_MAX },
		/* The last pages that have an exclusive end in 64 bits. */
		{ .addr = UINT64_MAX - 16 * TIB - FLN_PAGE_BYTES + 1,
		  .len_bytes = 16 * TIB,
		  .max_stripes = 100,
		  .nr_shards = 3 },
	};

	(void)unused;
	for (size_t i = 0; i < sizeof(edges) / sizeof(edges[0]); i++) {
		struct fln_stripe_plan plan;

		plan_of(&plan, &edges[i]);
		check_size(&plan, &edges[i]);
		check_tiling(&plan, &edges[i]);
	}
}

/* 16 TiB with a stripe per block: eight million of them, and the last is right. */
static void test_largest(void **unused)
{
	const struct request r = {
		.addr = 3 * TIB,
		.len_bytes = 16 * TIB,
		.max_stripes = UINT64_MAX,
		.nr_shards = 64,
	};
	struct fln_stripe_plan plan;
	uint64_t addr, len;
	uint32_t shard;

	(void)unused;
	plan_of(&plan, &r);
	assert_int_equal(plan.stripe_shift, FLN_BLOCK_SHIFT);
	assert_int_equal(plan.nr_stripes, UINT64_C(1) << 23);
	assert_true(fln_stripe_get(&plan, plan.nr_stripes - 1, &addr, &len, &shard));
	assert_int_equal(addr + len, 19 * TIB);
	assert_int_equal(shard, 63);
	assert_false(fln_stripe_get(&plan, plan.nr_stripes, &addr, &len, &shard));
	assert_false(fln_stripe_get(&plan, UINT64_MAX, &addr, &len, &shard));
}

/* On how many shards @bytes from @addr on lie. */
static uint32_t nr_shards_of(const struct fln_stripe_plan *plan, uint64_t addr, uint64_t bytes)
{
	bool seen[FLN_STRIPE_SHARDS_MAX] = { false };
	uint32_t nr = 0;

	for (uint64_t at = addr; at < addr + bytes; at += FLN_BLOCK_BYTES) {
		uint32_t shard = fln_stripe_shard(plan, at);

		nr += !seen[shard];
		seen[shard] = true;
	}
	return nr;
}

/* What is hot at either end of a large guest is on many shards, with no more mappings. */
static void test_hot_ends(void **unused)
{
	const struct request r = {
		.addr = 3 * TIB + 7 * FLN_PAGE_BYTES,
		.len_bytes = 12 * TIB,
		.max_stripes = 8191,
		.nr_shards = 64,
		.first_shard = 11,
	};
	uint64_t hot = UINT64_C(256) << 20, end = r.addr + r.len_bytes;
	struct fln_stripe_plan plan;

	(void)unused;
	plan_of(&plan, &r);
	check_size(&plan, &r);
	check_tiling(&plan, &r);
	assert_true(nr_shards_of(&plan, r.addr, hot) >= 32);
	assert_true(nr_shards_of(&plan, r.addr + 5 * hot + FLN_PAGE_BYTES, hot) >= 32);
	assert_true(nr_shards_of(&plan, end - hot, hot) >= 32);
	assert_true(nr_shards_of(&plan, end - 40 * hot, hot) >= 32);
}

/* Many regions of one stripe, or of some: their beginnings are on nearly all shards. */
static void test_small_regions_spread(void **unused)
{
	static const uint32_t shards[] = { 1, 2, 3, 7, 8, 31, 32, 33, 64, 1000, 1024 };

	(void)unused;
	for (size_t i = 0; i < sizeof(shards) / sizeof(shards[0]); i++) {
		uint32_t nr_of[1024] = { 0 }, nr = 0;

		assert_int_equal(fln_stripe_first_shard(0, shards[i]), 0);
		for (uint32_t n = 1000; n < 1000 + 2 * shards[i]; n++) {
			uint32_t shard = fln_stripe_first_shard(n, shards[i]);

			assert_true(shard < shards[i]);
			nr += nr_of[shard]++ == 0;
		}
		assert_true(nr >= shards[i] - shards[i] / 16);
		for (uint32_t s = 0; s < shards[i]; s++)
			assert_true(nr_of[s] <= 4);
	}
}

static void test_bad_input(void **unused)
{
	const struct {
		uint64_t addr, len_bytes, max_stripes;
		uint32_t nr_shards;
		int rc;
	} bad[] = {
		{ 1, FLN_PAGE_BYTES, 1, 1, -EINVAL },
		{ FLN_PAGE_BYTES / 2, FLN_PAGE_BYTES, 1, 1, -EINVAL },
		{ FLN_PAGE_BYTES, 0, 1, 1, -EINVAL },
		{ FLN_PAGE_BYTES, FLN_PAGE_BYTES + 1, 1, 1, -EINVAL },
		{ FLN_PAGE_BYTES, 16 * TIB + FLN_PAGE_BYTES, 1, 1, -EINVAL },
		{ UINT64_MAX - FLN_PAGE_BYTES + 1, FLN_PAGE_BYTES, 1, 1, -EINVAL },
		{ UINT64_MAX - FLN_PAGE_BYTES + 1, 2 * FLN_PAGE_BYTES, 1, 1, -EINVAL },
		{ FLN_PAGE_BYTES, FLN_PAGE_BYTES, 1, 0, -EINVAL },
		{ FLN_PAGE_BYTES, FLN_PAGE_BYTES, 1, FLN_STRIPE_SHARDS_MAX + 1, -EINVAL },
		{ FLN_PAGE_BYTES, FLN_PAGE_BYTES, 0, 1, -ENOSPC },
		{ FLN_PAGE_BYTES, FLN_PAGE_BYTES, 0, 8, -ENOSPC },
	};

	(void)unused;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct fln_stripe_plan plan, before;
		int rc;

		memset(&plan, 0x5a, sizeof(plan));
		before = plan;
		rc = fln_stripe_plan_init(&plan, bad[i].addr, bad[i].len_bytes, bad[i].nr_shards, 0,
					  bad[i].max_stripes);
		assert_int_equal(rc, bad[i].rc);
		assert_true(strlen(fln_last_error()) > 0);
		assert_memory_equal(&plan, &before, sizeof(plan));
	}
}

static void test_default_nr_shards(void **unused)
{
	(void)unused;
	assert_int_equal(fln_default_nr_shards(0, 0), 1);
	assert_int_equal(fln_default_nr_shards(1, 1), 1);
	assert_int_equal(fln_default_nr_shards(9, 1), 2);
	assert_int_equal(fln_default_nr_shards(64, 2), 8);
	assert_int_equal(fln_default_nr_shards(8, 5), 8);
	assert_int_equal(fln_default_nr_shards(200, 2), 32);
	assert_int_equal(fln_default_nr_shards(UINT32_MAX, 1), FLN_SHARDS_DEFAULT_MAX);
	assert_int_equal(fln_default_nr_shards(1, UINT32_MAX), FLN_SHARDS_DEFAULT_MAX);
	for (uint32_t vcpus = 0; vcpus <= 2048; vcpus += 3) {
		for (uint32_t workers = 0; workers <= 256; workers++) {
			uint32_t nr = fln_default_nr_shards(vcpus, workers);

			assert_true(fln_is_pow2(nr));
			assert_true(nr >= workers);
			assert_true(nr <= FLN_SHARDS_DEFAULT_MAX);
			/* About vcpus / 8: below twice of what was wanted. */
			assert_true(nr == 1 || nr / 2 < workers ||
				    nr / 2 * FLN_SHARDS_VCPUS_PER_SHARD < vcpus);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random_plans), cmocka_unit_test(test_block_has_one_shard),
		cmocka_unit_test(test_edges),        cmocka_unit_test(test_largest),
		cmocka_unit_test(test_hot_ends),     cmocka_unit_test(test_small_regions_spread),
		cmocka_unit_test(test_bad_input),    cmocka_unit_test(test_default_nr_shards),
	};
	const char *given = getenv("FAULTLANE_TEST_SEED");

	seed = given ? strtoull(given, NULL, 0) : fln_now_ns();
	seed |= 1;
	printf("seed: FAULTLANE_TEST_SEED=%" PRIu64 "\n", seed);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
