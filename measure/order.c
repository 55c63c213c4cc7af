/* SPDX-License-Identifier: MIT */
/* Chooses pages, shuffles them and assigns them to threads. */
#include "measure/order.h"

#include <errno.h>
#include <stdlib.h>

/* splitmix64: small, accepts any seed, good enough to choose pages. */
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

/* A number in [0, @below); the bias of @below / 2^64 is negligible. */
static uint64_t random_below(uint64_t *state, uint64_t below)
{
	return next_random(state) % below;
}

/* Choose a random sample without replacement, in ascending order (selection sampling). */
static void choose(struct measure_plan *plan, uint64_t *state)
{
	uint64_t chosen = 0;

	for (uint64_t page = 0; chosen < plan->nr_pages; page++) {
		uint64_t left = plan->total_pages - page;

		if (left == plan->nr_pages - chosen ||
		    random_below(state, left) < plan->nr_pages - chosen)
			plan->pages[chosen++] = (uint32_t)page;
	}
}

/* Shuffle entries [@lo, @hi) of the list (Fisher-Yates). */
static void shuffle(struct measure_plan *plan, uint64_t lo, uint64_t hi, uint64_t *state)
{
	for (uint64_t i = hi; i > lo + 1; i--) {
		uint64_t j = lo + random_below(state, i - lo);
		uint32_t page = plan->pages[i - 1];

		plan->pages[i - 1] = plan->pages[j];
		plan->pages[j] = page;
	}
}

/* Deal the ascending list to the threads round-robin.  Return: 0; -ENOMEM. */
static int deal(struct measure_plan *plan)
{
	uint32_t *dealt = calloc(plan->nr_pages, sizeof(*dealt));
	uint64_t at = 0;

	if (!dealt)
		return -ENOMEM;
	for (uint64_t round = 0; at < plan->nr_pages; round++) {
		for (uint32_t thread = 0; thread < plan->nr_threads; thread++) {
			uint64_t lo, hi;

			measure_plan_slice(plan, thread, &lo, &hi);
			if (lo + round < hi)
				dealt[lo + round] = plan->pages[at++];
		}
	}
	free(plan->pages);
	plan->pages = dealt;
	return 0;
}

/* Bring the ascending list into the order of touching. */
static int arrange(struct measure_plan *plan, const struct measure_plan_opts *opts, uint64_t *state)
{
	if (!opts->shuffled)
		return opts->mixed ? deal(plan) : 0;
	if (opts->mixed) {
		shuffle(plan, 0, plan->nr_pages, state);
		return 0;
	}
	for (uint32_t thread = 0; thread < plan->nr_threads; thread++) {
		uint64_t lo, hi;

		measure_plan_slice(plan, thread, &lo, &hi);
		shuffle(plan, lo, hi, state);
	}
	return 0;
}

/* Note the owners of the pages that are touched in @phase. */
static void note_owners(const struct measure_plan *plan, uint32_t phase, uint16_t *owners)
{
	for (uint32_t thread = 0; thread < plan->nr_threads; thread++) {
		uint64_t lo, hi;

		measure_plan_phase_slice(plan, thread, phase, &lo, &hi);
		for (; lo < hi; lo++)
			owners[plan->pages[lo]] = (uint16_t)(thread + 1);
	}
}

int measure_plan_init(struct measure_plan *plan, const struct measure_plan_opts *opts)
{
	uint64_t state = opts->seed, nr_pages = opts->total_pages / opts->density;

	*plan = (struct measure_plan){
		.nr_pages = nr_pages ? nr_pages : 1,
		.total_pages = opts->total_pages,
		.nr_threads = opts->nr_threads,
		.nr_phases = opts->nr_phases ? opts->nr_phases : 1,
		.seed = opts->seed,
	};
	plan->pages = calloc(plan->nr_pages, sizeof(*plan->pages));
	plan->owners = calloc(opts->total_pages, sizeof(*plan->owners));
	if (plan->pages && plan->owners) {
		choose(plan, &state);
		if (arrange(plan, opts, &state) == 0) {
			for (uint32_t phase = 0; phase < plan->nr_phases; phase++)
				note_owners(plan, phase, plan->owners);
			return 0;
		}
	}
	measure_plan_deinit(plan);
	return -ENOMEM;
}

void measure_plan_deinit(struct measure_plan *plan)
{
	free(plan->pages);
	free(plan->owners);
	plan->pages = NULL;
	plan->owners = NULL;
}

void measure_plan_slice(const struct measure_plan *plan, uint32_t thread, uint64_t *lo,
			uint64_t *hi)
{
	*lo = plan->nr_pages * thread / plan->nr_threads;
	*hi = plan->nr_pages * (thread + 1) / plan->nr_threads;
}

void measure_plan_phase_slice(const struct measure_plan *plan, uint32_t thread, uint32_t phase,
			      uint64_t *lo, uint64_t *hi)
{
	uint64_t from, to;

	measure_plan_slice(plan, thread, &from, &to);
	*lo = from + (to - from) * phase / plan->nr_phases;
	*hi = from + (to - from) * (phase + 1) / plan->nr_phases;
}

uint64_t measure_plan_phase_pages(const struct measure_plan *plan, uint32_t phase)
{
	uint64_t nr = 0;

	for (uint32_t thread = 0; thread < plan->nr_threads; thread++) {
		uint64_t lo, hi;

		measure_plan_phase_slice(plan, thread, phase, &lo, &hi);
		nr += hi - lo;
	}
	return nr;
}

int measure_plan_touched(struct measure_plan *out, const struct measure_plan *plan, uint32_t phase)
{
	*out = *plan;
	out->pages = NULL;
	out->nr_pages = 0;
	out->owners = calloc(plan->total_pages, sizeof(*out->owners));
	if (!out->owners)
		return -ENOMEM;
	for (uint32_t i = 0; i <= phase; i++) {
		note_owners(plan, i, out->owners);
		out->nr_pages += measure_plan_phase_pages(plan, i);
	}
	return 0;
}

uint64_t measure_plan_token(const struct measure_plan *plan, uint32_t page, uint32_t thread)
{
	return mix(plan->seed ^ ((uint64_t)page << 16 | thread)) | 1;
}
