/* SPDX-License-Identifier: MIT */
/* Latency histograms: eight buckets per power of two. */
#include "base/histogram.h"

#include <assert.h>
#include <stdbool.h>

#define LINEAR 16u /* each value below has a bucket of its own */
#define PER_OCTAVE 8u
#define OCTAVE_SHIFT 3u

static_assert(FLN_HISTOGRAM_NR_BUCKETS == LINEAR + (64 - 4) * PER_OCTAVE, "buckets");

static uint32_t bucket_of(uint64_t value)
{
	uint32_t top;

	if (value < LINEAR)
		return (uint32_t)value;
	top = 63u - (uint32_t)__builtin_clzll(value);
	return LINEAR + (top - 4) * PER_OCTAVE +
	       (uint32_t)((value >> (top - OCTAVE_SHIFT)) & (PER_OCTAVE - 1));
}

uint64_t fln_histogram_bucket_end(uint32_t bucket)
{
	uint32_t top;
	uint64_t step;

	if (bucket < LINEAR)
		return bucket;
	top = (bucket - LINEAR) / PER_OCTAVE + 4;
	step = UINT64_C(1) << (top - OCTAVE_SHIFT);
	return (UINT64_C(1) << top) + ((bucket - LINEAR) % PER_OCTAVE) * step + (step - 1);
}

/* For a single writer.  Readers may run at any time; they never see a torn field. */
static void add(uint64_t *field, uint64_t n)
{
	__atomic_store_n(field, *field + n, __ATOMIC_RELAXED);
}

static uint64_t get(const uint64_t *field)
{
	return __atomic_load_n(field, __ATOMIC_RELAXED);
}

void fln_histogram_record(struct fln_histogram *h, uint64_t value_ns)
{
	add(&h->count, 1);
	add(&h->sum_ns, value_ns);
	if (value_ns > h->max_ns)
		__atomic_store_n(&h->max_ns, value_ns, __ATOMIC_RELAXED);
	add(&h->bucket[bucket_of(value_ns)], 1);
}

void fln_histogram_record_shared(struct fln_histogram *h, uint64_t value_ns)
{
	uint64_t max = get(&h->max_ns);

	(void)__atomic_fetch_add(&h->count, 1, __ATOMIC_RELAXED);
	(void)__atomic_fetch_add(&h->sum_ns, value_ns, __ATOMIC_RELAXED);
	(void)__atomic_fetch_add(&h->bucket[bucket_of(value_ns)], 1, __ATOMIC_RELAXED);
	while (value_ns > max && !__atomic_compare_exchange_n(&h->max_ns, &max, value_ns, true,
							      __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		;
}

void fln_histogram_merge(struct fln_histogram *into, const struct fln_histogram *from)
{
	add(&into->count, get(&from->count));
	add(&into->sum_ns, get(&from->sum_ns));
	if (get(&from->max_ns) > into->max_ns)
		into->max_ns = get(&from->max_ns);
	for (uint32_t i = 0; i < FLN_HISTOGRAM_NR_BUCKETS; i++)
		add(&into->bucket[i], get(&from->bucket[i]));
}

uint64_t fln_histogram_quantile(const struct fln_histogram *h, double q)
{
	double target = q * (double)h->count;
	uint64_t seen = 0;

	for (uint32_t i = 0; i < FLN_HISTOGRAM_NR_BUCKETS; i++) {
		seen += h->bucket[i];
		if (h->bucket[i] && (double)seen >= target)
			return fln_histogram_bucket_end(i) < h->max_ns ? fln_histogram_bucket_end(i)
								       : h->max_ns;
	}
	return h->max_ns;
}
