/* SPDX-License-Identifier: MIT */
/* Regions are added, removed, moved and unmapped. */
#ifndef STRESS_CHAOS_REGIONS_H
#define STRESS_CHAOS_REGIONS_H

#include "stress/stress.h"

/* A step each; false: it was refused, as can be when others misbehave. */
bool chaos_regions(struct stress *s, struct rng *rng);
bool chaos_unmap(struct stress *s, struct rng *rng);
bool chaos_remap(struct stress *s, struct rng *rng);
/* A region once more for a moment, read and verified: however it came about that it is there. */
bool extra_look(struct stress *s, struct rng *rng, uint32_t nr);
/* A region once more that goes after parts of it were given up. */
bool extra_given_up(struct stress *s, struct rng *rng);

#endif
