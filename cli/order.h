/* SPDX-License-Identifier: MIT */
/*
 * Which pages are touched, by whom, and in which order.
 */
#ifndef CLI_ORDER_H
#define CLI_ORDER_H

#include <stdbool.h>
#include <stdint.h>

/* Page numbers are 32 bits wide: images of less than 16 TiB. */
struct cli_plan {
	uint32_t *pages;   /* the chosen pages in the order of touching */
	uint16_t *owners;  /* per page of the image: who touches it, plus one; 0: nobody */
	uint64_t nr_pages; /* chosen */
	uint64_t total_pages;
	uint32_t nr_threads;
	uint64_t seed;
};

/*
 * Choose @total_pages / @density pages (at least one) at random and deal them to
 * the threads: in slices of one shuffled list, or of the ascending list.
 * Return: 0 or -ENOMEM.
 */
int cli_plan_init(struct cli_plan *plan, uint64_t total_pages, uint32_t density,
		  uint32_t nr_threads, bool shuffled, uint64_t seed);
void cli_plan_deinit(struct cli_plan *plan);

/* The slice of @thread: plan->pages[*lo] to plan->pages[*hi - 1]. */
void cli_plan_slice(const struct cli_plan *plan, uint32_t thread, uint64_t *lo, uint64_t *hi);

/* What @thread writes into @page; never zero. */
uint64_t cli_plan_token(const struct cli_plan *plan, uint32_t page, uint32_t thread);

#endif
