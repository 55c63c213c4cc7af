/* SPDX-License-Identifier: MIT */
/* Discards, and pages of zeros that are put into the page cache behind the engine. */
#ifndef STRESS_CHAOS_DISCARD_H
#define STRESS_CHAOS_DISCARD_H

#include "stress/stress.h"

bool chaos_discard(struct stress *s, struct rng *rng);
/* Send touching threads to these pages, to check them. */
void chaos_leave_trail(struct stress *s, uint64_t page, uint32_t nr);
/* Discard a page so that its contents come back, unless another thread has it. */
void chaos_unmap_page(struct stress *s, uint64_t page);

#endif
