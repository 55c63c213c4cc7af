/* SPDX-License-Identifier: MIT */
/* Choosing, shuffling and dealing pages. */
#include "cli/order.h"

#include <errno.h>
#include <stdlib.h>

/* splitmix64: small, seeded by any number, good enough to choose pages by. */
static uint64_t mix(uint64_t x)
{
	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	return x ^ (x >> 31);
}

static uint64_t next_random(uint64_t *state)
{
	*state += UINT64_C(0x9e3779b97f4a7c15);
	return mix(*state);
}

/* 0 to @below - 1; a bias of below / 2^64 is beneath notice. */
static uint64_t random_below(uint64_t *state, uint64_t below)
{
	return next_random(state) % below;
}

/* A sample without replacement, ascending: each page by the odds that are left. */
static void choose(struct cli_plan *plan, uint64_t *state)
{
	uint64_t chosen = 0;

	for (uint64_t page = 0; chosen < plan->nr_pages; page++) {
		uint64_t left = plan->total_pages - page;

		if (left == plan->nr_pages - chosen ||
		    random_below(state, left) < plan->nr_pages - chosen)
			plan->pages[chosen++] = (uint32_t)page;
	}
}

static void shuffle(struct cli_plan *plan, uint64_t *state)
{
	for (uint64_t i = plan->nr_pages; i > 1; i--) {
		uint64_t j = random_below(state, i);
		uint32_t page = plan->pages[i - 1];

		plan->pages[i - 1] = plan->pages[j];
		plan->pages[j] = page;
	}
}

int cli_plan_init(struct cli_plan *plan, uint64_t total_pages, uint32_t density,
		  uint32_t nr_threads, bool shuffled, uint64_t seed)
{
	uint64_t state = seed;

	*plan = (struct cli_plan){
		.nr_pages = total_pages / density ? total_pages / density : 1,
		.total_pages = total_pages,
		.nr_threads = nr_threads,
		.seed = seed,
	};
	plan->pages = calloc(plan->nr_pages, sizeof(*plan->pages));
	plan->owners = calloc(total_pages, sizeof(*plan->owners));
	if (!plan->pages || !plan->owners) {
		cli_plan_deinit(plan);
		return -ENOMEM;
	}
	choose(plan, &state);
	if (shuffled)
		shuffle(plan, &state);
	for (uint32_t thread = 0; thread < nr_threads; thread++) {
		uint64_t lo, hi;

		cli_plan_slice(plan, thread, &lo, &hi);
		for (; lo < hi; lo++)
			plan->owners[plan->pages[lo]] = (uint16_t)(thread + 1);
	}
	return 0;
}

void cli_plan_deinit(struct cli_plan *plan)
{
	free(plan->pages);
	free(plan->owners);
	plan->pages = NULL;
	plan->owners = NULL;
}

void cli_plan_slice(const struct cli_plan *plan, uint32_t thread, uint64_t *lo, uint64_t *hi)
{
	*lo = plan->nr_pages * thread / plan->nr_threads;
	*hi = plan->nr_pages * (thread + 1) / plan->nr_threads;
}

uint64_t cli_plan_token(const struct cli_plan *plan, uint32_t page, uint32_t thread)
{
	return mix(plan->seed ^ ((uint64_t)page << 16 | thread)) | 1;
}
