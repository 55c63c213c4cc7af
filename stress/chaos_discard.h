/* SPDX-License-Identifier: MIT */
/* Contents are given up, and pages of zeros put behind the engine. */
#ifndef STRESS_CHAOS_DISCARD_H
#define STRESS_CHAOS_DISCARD_H

#include "stress/stress.h"

bool chaos_discard(struct stress *s, struct rng *rng);
/* Let threads go there, to see what has become of it. */
void chaos_leave_trail(struct stress *s, uint64_t page, uint32_t nr);
/* Give a page up so that its contents come back, unless others have it. */
void chaos_unmap_page(struct stress *s, uint64_t page);

#endif
