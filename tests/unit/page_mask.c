/* SPDX-License-Identifier: MIT */
/* Pages and masks, against a model of one bool per bit. */
#include "base/page.h"
#include "tests/support/cm.h"
#include "tests/support/rng.h"

#define NR FLN_BLOCK_PAGES
#define ROUNDS 2000

struct model {
	bool bit[NR];
};

static void assert_same(const struct fln_mask *m, const struct model *model)
{
	uint32_t nr = 0;

	for (uint32_t i = 0; i < NR; i++) {
		assert_int_equal(fln_mask_test(m, i), model->bit[i]);
		nr += model->bit[i];
	}
	assert_int_equal(fln_mask_count(m), nr);
	assert_int_equal(fln_mask_empty(m), nr == 0);
}

static uint32_t model_next(const struct model *model, uint32_t from, bool value)
{
	while (from < NR && model->bit[from] != value)
		from++;
	return from;
}

/* Densities from nearly empty to nearly full, so that runs are long sometimes. */
static void make_random(struct rng *rng, struct fln_mask *m, struct model *model)
{
	uint32_t percent = rng_below(rng, 101);

	memset(m, 0, sizeof(*m));
	for (uint32_t i = 0; i < NR; i++) {
		model->bit[i] = rng_below(rng, 100) < percent;
		if (model->bit[i])
			fln_mask_set(m, i);
	}
}

static void conversions(void **state)
{
	(void)state;
	assert_int_equal(fln_bytes_to_pages(4096), 1);
	assert_int_equal(fln_pages_to_bytes(512), FLN_BLOCK_BYTES);
	assert_true(fln_is_aligned(0, 4096));
	assert_false(fln_is_aligned(4095, 4096));
	assert_int_equal(fln_align_down(4095, 4096), 0);
	assert_int_equal(fln_align_up(4097, 4096), 8192);
	assert_int_equal(fln_align_up(4096, 4096), 4096);
	assert_false(fln_is_pow2(0));
	assert_true(fln_is_pow2(1));
	assert_true(fln_is_pow2(UINT64_C(1) << 63));
	assert_false(fln_is_pow2(6));
}

static void every_range(void **state)
{
	(void)state;
	for (uint32_t lo = 0; lo <= NR; lo += lo % 64 < 62 && lo % 64 > 2 ? 7 : 1) {
		for (uint32_t hi = lo; hi <= NR; hi++) {
			struct fln_mask m = fln_mask_range(lo, hi);

			assert_int_equal(fln_mask_count(&m), hi - lo);
			if (hi == lo)
				continue;
			assert_int_equal(fln_mask_next_set(&m, 0), lo);
			assert_int_equal(fln_mask_next_clear(&m, lo), hi);
			assert_int_equal(fln_mask_next_set(&m, hi), NR);
		}
	}
}

static void bits_of_a_word(void **state)
{
	(void)state;
	assert_int_equal(fln_bits(0, 64), UINT64_MAX);
	assert_int_equal(fln_bits(63, 64), UINT64_C(1) << 63);
	assert_int_equal(fln_bits(0, 1), 1);
	assert_int_equal(fln_bits(4, 8), 0xf0);
}

static void random_masks(void **state)
{
	struct rng rng = { .state = 1 };

	(void)state;
	for (uint32_t round = 0; round < ROUNDS; round++) {
		uint32_t lo = rng_below(&rng, NR + 1), hi = lo + rng_below(&rng, NR + 1 - lo), bit;
		struct model a, b, both, either, only;
		struct fln_mask ma, mb, m;

		make_random(&rng, &ma, &a);
		make_random(&rng, &mb, &b);
		for (uint32_t i = 0; i < NR; i++) {
			both.bit[i] = a.bit[i] && b.bit[i];
			either.bit[i] = a.bit[i] || b.bit[i];
			only.bit[i] = a.bit[i] && !b.bit[i];
		}
		m = fln_mask_and(&ma, &mb);
		assert_same(&m, &both);
		m = fln_mask_or(&ma, &mb);
		assert_same(&m, &either);
		m = fln_mask_andnot(&ma, &mb);
		assert_same(&m, &only);

		fln_mask_set_range(&ma, lo, hi);
		for (uint32_t i = lo; i < hi; i++)
			a.bit[i] = true;
		bit = rng_below(&rng, NR);
		fln_mask_clear(&ma, bit);
		a.bit[bit] = false;
		assert_same(&ma, &a);
	}
}

static void runs(void **state)
{
	struct rng rng = { .state = 2 };

	(void)state;
	for (uint32_t round = 0; round < ROUNDS; round++) {
		struct fln_mask m;
		struct model model;
		uint32_t lo = 0, hi, at = 0, from = rng_below(&rng, NR + 1);

		make_random(&rng, &m, &model);
		assert_int_equal(fln_mask_next_set(&m, from), model_next(&model, from, true));
		assert_int_equal(fln_mask_next_clear(&m, from), model_next(&model, from, false));
		for (; fln_mask_next_run(&m, &lo, &hi); lo = hi) {
			at = model_next(&model, at, true);
			assert_int_equal(lo, at);
			at = model_next(&model, at, false);
			assert_int_equal(hi, at);
		}
		assert_int_equal(model_next(&model, at, true), NR);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(conversions),    cmocka_unit_test(every_range),
		cmocka_unit_test(bits_of_a_word), cmocka_unit_test(random_masks),
		cmocka_unit_test(runs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
