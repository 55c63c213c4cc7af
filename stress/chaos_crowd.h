/* SPDX-License-Identifier: MIT */
/* All threads at one place: steps that lock the world themselves. */
#ifndef STRESS_CHAOS_CROWD_H
#define STRESS_CHAOS_CROWD_H

#include "stress/stress.h"

bool chaos_stampede(struct stress *s, struct rng *rng);
bool chaos_convergence(struct stress *s, struct rng *rng);
bool chaos_pause(struct stress *s, struct rng *rng);
/* All threads on one page at once; the gate is closed, and nobody under way. */
void crowd_stampede(struct stress *s, uint64_t page);

#endif
