/* SPDX-License-Identifier: MIT */
/* Latency histograms: bucket ends, quantiles, merging. */
#include "tests/support/cm.h"
#include "tests/support/rng.h"

#include <faultlane/stats.h>
#include <stdlib.h>
#include <string.h>

/* The only bucket that holds something. */
static uint32_t bucket_of(uint64_t value)
{
	struct fln_histogram h = { .count = 0 };
	uint32_t i = 0;

	fln_histogram_record(&h, value);
	while (h.bucket[i] == 0)
		i++;
	return i;
}

static void buckets_are_in_order_and_narrow(void **state)
{
	uint32_t before = 0;

	(void)state;
	for (uint64_t v = 0; v < 16; v++)
		assert_int_equal(bucket_of(v), v);
	for (uint32_t top = 4; top < 64; top++) {
		uint64_t step = UINT64_C(1) << (top - 3);

		for (uint32_t i = 0; i < 8; i++) {
			uint64_t first = (UINT64_C(1) << top) + i * step;
			uint32_t b = bucket_of(first);

			assert_int_equal(b, before == 0 ? 16 : before + 1);
			assert_int_equal(bucket_of(first + step - 1), b);
			before = b;
		}
	}
	assert_int_equal(bucket_of(UINT64_MAX), FLN_HISTOGRAM_NR_BUCKETS - 1);
}

static void nothing_recorded(void **state)
{
	struct fln_histogram h = { .count = 0 };

	(void)state;
	assert_int_equal(fln_histogram_quantile(&h, 0.5), 0);
	assert_int_equal(fln_histogram_quantile(&h, 1.0), 0);
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static void quantiles_are_within_an_eighth(void **state)
{
	enum {
		NR = 10000
	};
	static const double qs[] = { 0.0, 0.01, 0.5, 0.9, 0.99, 0.999, 1.0 };
	struct fln_histogram h = { .count = 0 };
	struct rng rng = { .state = 5 };
	static uint64_t v[NR];
	uint64_t sum = 0;

	(void)state;
	for (uint32_t i = 0; i < NR; i++) {
		v[i] = rng_next(&rng) >> (20 + rng_below(&rng, 40));
		sum += v[i];
		fln_histogram_record(&h, v[i]);
	}
	qsort(v, NR, sizeof(v[0]), by_value);
	assert_int_equal(h.count, NR);
	assert_int_equal(h.sum_ns, sum);
	assert_int_equal(h.max_ns, v[NR - 1]);
	for (uint32_t i = 0; i < sizeof(qs) / sizeof(qs[0]); i++) {
		uint32_t rank = (uint32_t)(qs[i] * NR);
		uint64_t exact = v[rank > 0 ? rank - 1 : 0];
		uint64_t got = fln_histogram_quantile(&h, qs[i]);

		assert_true(got >= exact);
		assert_true(got <= exact + exact / 8 + 1);
		assert_true(got <= h.max_ns);
	}
}

static void merging_is_adding(void **state)
{
	struct fln_histogram a = { .count = 0 }, b = { .count = 0 }, all = { .count = 0 };
	struct rng rng = { .state = 6 };

	(void)state;
	for (int i = 0; i < 1000; i++) {
		uint64_t v = rng_next(&rng) >> 40;

		fln_histogram_record(i % 3 ? &a : &b, v);
		fln_histogram_record(&all, v);
	}
	fln_histogram_merge(&a, &b);
	assert_memory_equal(&a, &all, sizeof(a));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(buckets_are_in_order_and_narrow),
		cmocka_unit_test(nothing_recorded),
		cmocka_unit_test(quantiles_are_within_an_eighth),
		cmocka_unit_test(merging_is_adding),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
