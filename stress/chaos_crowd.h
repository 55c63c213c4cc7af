/* SPDX-License-Identifier: MIT */
/* All threads in one place: these steps lock the world themselves. */
#ifndef STRESS_CHAOS_CROWD_H
#define STRESS_CHAOS_CROWD_H

#include "stress/stress.h"

bool chaos_stampede(struct stress *s, struct rng *rng);
bool chaos_convergence(struct stress *s, struct rng *rng);
bool chaos_pause(struct stress *s, struct rng *rng);
/* Let all threads touch one page at once.  The gate is closed, and no thread is inside a touch. */
void crowd_stampede(struct stress *s, uint64_t page);

#endif
