/* SPDX-License-Identifier: MIT */
/*
 * A touch plan: which pages are touched, by which thread, in which order.
 */
#ifndef MEASURE_ORDER_H
#define MEASURE_ORDER_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Page numbers are 32 bits wide: images of less than 16 TiB. */
struct measure_plan {
	uint32_t *pages;  /* the chosen pages in the order of touching */
	uint16_t *owners; /* per page of the image: the thread that touches it, plus one; 0: none */
	uint64_t nr_pages; /* number of chosen pages */
	uint64_t total_pages;
	uint32_t nr_threads;
	uint32_t nr_phases;
	uint64_t seed;
};

/* Parameters of a touch plan. */
struct measure_plan_opts {
	uint64_t total_pages;
	uint32_t density; /* one page in @density is chosen, at random; at least one page */
	uint32_t nr_threads;
	bool shuffled; /* each thread touches its pages in random order, else ascending */
	bool mixed;    /* pages are interleaved between threads; else each has a contiguous part */
	uint32_t nr_phases; /* each thread's pages are touched in so many phases; 0: in one */
	uint64_t seed;
};

/* Return: 0 or -ENOMEM. */
int measure_plan_init(struct measure_plan *plan, const struct measure_plan_opts *opts);
void measure_plan_deinit(struct measure_plan *plan);

/* The slice of @thread: plan->pages[*lo] to plan->pages[*hi - 1]. */
void measure_plan_slice(const struct measure_plan *plan, uint32_t thread, uint64_t *lo,
			uint64_t *hi);

/* As measure_plan_slice(): the part of it that is touched in @phase, from 0 on. */
void measure_plan_phase_slice(const struct measure_plan *plan, uint32_t thread, uint32_t phase,
			      uint64_t *lo, uint64_t *hi);

/* How many pages are touched in @phase. */
uint64_t measure_plan_phase_pages(const struct measure_plan *plan, uint32_t phase);

/*
 * Make @out a plan of the same memory in which only those pages have owners that have been
 * touched when @phase ends, to verify them: nr_pages of them.  It has no list of pages.
 * Return: 0 or -ENOMEM; measure_plan_deinit() frees it.
 */
int measure_plan_touched(struct measure_plan *out, const struct measure_plan *plan, uint32_t phase);

/* The token that @thread writes to @page; never zero. */
uint64_t measure_plan_token(const struct measure_plan *plan, uint32_t page, uint32_t thread);

#ifdef __cplusplus
}
#endif

#endif
