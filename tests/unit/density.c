/* SPDX-License-Identifier: MIT */
/*
 * Windows by density, on guests that touch in every way: what they cost, against a loop
 * of single copies.
 *
 * A fault that copies one page costs 4, each page more 1: the kernel's calls and two
 * switches against a copy, as measured.
 */
#include "engine/density.h"
#include "base/page.h"

#include "tests/support/cm.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define COST_FAULT 4u
#define COST_COPY 1u
#define NR_BLOCKS 512u
#define NR_PAGES (NR_BLOCKS * FLN_BLOCK_PAGES)
#define BASE_ADDR (UINT64_C(0x7f12) << 32)

struct guest {
	struct fln_density density;
	struct fln_mask there[NR_BLOCKS];
	uint64_t nr_touched, nr_faults, nr_copied;
};

static uint64_t seed;

static uint32_t below(uint32_t n)
{
	seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (uint32_t)((seed >> 33) % n);
}

static struct guest *make(uint32_t max, bool kvm)
{
	struct guest *g = calloc(1, sizeof(*g));

	assert_non_null(g);
	fln_density_init(&g->density, max, kvm);
	return g;
}

/* Each page is touched once. */
static void touch(struct guest *g, uint32_t page)
{
	struct fln_mask *there = &g->there[page / FLN_BLOCK_PAGES];
	uint64_t addr = BASE_ADDR + page / FLN_BLOCK_PAGES * FLN_BLOCK_BYTES;
	struct fln_window w;

	page %= FLN_BLOCK_PAGES;
	g->nr_touched++;
	if (fln_mask_test(there, page))
		return;
	g->nr_faults++;
	fln_density_note(&g->density, addr, page, there);
	w = fln_density_window(&g->density, addr, page);
	assert_true(w.lo <= page && page < w.hi && w.hi <= FLN_BLOCK_PAGES);
	assert_true(fln_is_pow2(w.hi - w.lo));
	assert_true(fln_is_aligned(w.lo, w.hi - w.lo));
	assert_true(w.hi - w.lo <= g->density.max);
	for (uint32_t i = w.lo; i < w.hi; i++) {
		g->nr_copied += !fln_mask_test(there, i);
		fln_mask_set(there, i);
	}
}

/* In per cent of what a loop of single copies costs. */
static uint64_t cost(const struct guest *g)
{
	uint64_t windows = g->nr_faults * COST_FAULT + (g->nr_copied - g->nr_faults) * COST_COPY;

	return windows * 100 / (g->nr_touched * COST_FAULT);
}

/* Pages [lo, hi), each chosen with probability @num / @of, in a random order if @shuffled. */
static void touch_some(struct guest *g, uint32_t lo, uint32_t hi, uint32_t num, uint32_t of,
		       bool shuffled)
{
	uint32_t *pages = malloc((size_t)(hi - lo) * sizeof(*pages)), nr = 0;

	assert_non_null(pages);
	for (uint32_t page = lo; page < hi; page++) {
		if (below(of) < num)
			pages[nr++] = page;
	}
	for (uint32_t i = nr; shuffled && i > 1; i--) {
		uint32_t k = below(i), page = pages[i - 1];

		pages[i - 1] = pages[k];
		pages[k] = page;
	}
	for (uint32_t i = 0; i < nr; i++)
		touch(g, pages[i]);
	free(pages);
}

/* Never more than a tenth dearer, and little is brought for nothing where little is touched. */
static void any_density(void **state)
{
	static const struct {
		uint32_t num, of;
	} densities[] = { { 1, 1 }, { 7, 8 }, { 3, 4 },  { 1, 2 },  { 2, 5 },  { 1, 3 },
			  { 1, 4 }, { 1, 8 }, { 1, 16 }, { 1, 64 }, { 1, 512 } };

	(void)state;
	for (uint32_t i = 0; i < sizeof(densities) / sizeof(densities[0]); i++) {
		for (uint32_t shuffled = 0; shuffled < 2; shuffled++) {
			for (uint32_t max = 0; max <= FLN_BLOCK_PAGES; max = max ? 8 * max : 8) {
				struct guest *g = make(max, false);

				seed = i;
				touch_some(g, 0, NR_PAGES, densities[i].num, densities[i].of,
					   shuffled);
				assert_in_range(cost(g), 1, 110);
				if (densities[i].num * 4 <= densities[i].of)
					assert_in_range(g->nr_copied, g->nr_touched,
							g->nr_touched * 102 / 100);
				free(g);
			}
		}
	}
}

static void dense_memory_is_brought(void **state)
{
	struct guest *g = make(0, false);

	(void)state;
	touch_some(g, 0, NR_PAGES, 1, 1, false);
	assert_int_equal(g->nr_copied, NR_PAGES);
	assert_in_range(g->nr_faults, 1, NR_PAGES / 16);
	free(g);
	g = make(FLN_BLOCK_PAGES, false);
	touch_some(g, 0, NR_PAGES, 1, 1, false);
	assert_in_range(g->nr_faults, 1, NR_PAGES / 32);
	free(g);
	/* In no order: when half of it has been touched one by one the rest follows. */
	seed = 1;
	g = make(0, false);
	touch_some(g, 0, NR_PAGES, 1, 1, true);
	assert_in_range(g->nr_faults, 1, NR_PAGES * 4 / 5);
	free(g);
}

/* Two hundred threads, each with a part of its own that it goes through. */
static void many_streams(void **state)
{
	struct guest *g = make(0, false);
	uint32_t at[200];

	(void)state;
	seed = 2;
	memset(at, 0, sizeof(at));
	for (uint32_t left = 200 * (NR_PAGES / 200); left > 0;) {
		uint32_t i = below(200);

		if (at[i] == NR_PAGES / 200)
			continue;
		touch(g, i * (NR_PAGES / 200) + at[i]++);
		left--;
	}
	assert_in_range(cost(g), 1, 60);
	free(g);
}

/* Every n-th page: nothing but the strides of arrays. */
static void strides(void **state)
{
	(void)state;
	for (uint32_t stride = 2; stride <= FLN_BLOCK_PAGES; stride++) {
		struct guest *g = make(0, false);

		for (uint32_t page = 0; page < NR_PAGES; page += stride)
			touch(g, page);
		assert_in_range(cost(g), 1, 110);
		free(g);
	}
}

/* Runs of whole pages with gaps between them: dense on one level, sparse on the next. */
static void islands(void **state)
{
	(void)state;
	for (uint32_t run = 2; run <= 1024; run *= 2) {
		for (uint32_t gap = 2; gap <= 64; gap *= 2) {
			struct guest *g = make(0, false);

			for (uint32_t lo = 0; lo + run <= NR_PAGES; lo += run * gap)
				touch_some(g, lo, lo + run, 1, 1, false);
			assert_in_range(cost(g), 1, 110);
			free(g);
		}
	}
}

/* What was learned is unlearned, before what it cost exceeds what it has saved. */
static void the_guest_changes(void **state)
{
	(void)state;
	for (uint32_t shuffled = 0; shuffled < 2; shuffled++) {
		struct guest *g = make(0, false);

		seed = 3;
		touch_some(g, 0, NR_PAGES / 8, 1, 1, false);
		touch_some(g, NR_PAGES / 8, NR_PAGES / 2, 1, 16, shuffled);
		assert_in_range(cost(g), 1, 110);
		/* By now one page a fault, whatever comes. */
		g->nr_touched = g->nr_faults = g->nr_copied = 0;
		touch_some(g, NR_PAGES / 2, NR_PAGES, 1, 64, shuffled);
		assert_in_range(g->nr_copied, g->nr_touched, g->nr_touched * 105 / 100);
		free(g);
		/* And the other way round. */
		g = make(0, false);
		touch_some(g, 0, NR_PAGES / 2, 1, 64, shuffled);
		g->nr_touched = g->nr_faults = g->nr_copied = 0;
		touch_some(g, NR_PAGES / 2, NR_PAGES, 1, 1, false);
		assert_in_range(cost(g), 1, 60);
		free(g);
	}
}

/* Faults of vCPUs cost more: less must be touched for a window to pay. */
static void vcpus(void **state)
{
	struct guest *threads = make(0, false), *kvm = make(0, true);

	(void)state;
	seed = 4;
	touch_some(threads, 0, NR_PAGES, 1, 3, false);
	seed = 4;
	touch_some(kvm, 0, NR_PAGES, 1, 3, false);
	assert_in_range(kvm->nr_faults * 4, 1, threads->nr_faults);
	free(threads);
	free(kvm);
}

/* Given up and touched again, for ever: no stretch counts for more than it has. */
static void touched_again(void **state)
{
	struct guest *g = make(0, false);

	(void)state;
	for (uint32_t i = 0; i < 100000; i++) {
		touch(g, (i % 64) * 64);
		memset(g->there, 0, sizeof(g->there));
	}
	assert_int_equal(g->nr_copied, g->nr_touched);
	free(g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(any_density),  cmocka_unit_test(dense_memory_is_brought),
		cmocka_unit_test(many_streams), cmocka_unit_test(strides),
		cmocka_unit_test(islands),      cmocka_unit_test(the_guest_changes),
		cmocka_unit_test(vcpus),        cmocka_unit_test(touched_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
