/* SPDX-License-Identifier: MIT */
/* Other guests of the same engine that hang or misbehave. */
#ifndef STRESS_CHAOS_NEIGHBOURS_H
#define STRESS_CHAOS_NEIGHBOURS_H

#include "stress/stress.h"

const char *chaos_neighbours_prepare(struct stress *s);
bool chaos_neighbours(struct stress *s, struct rng *rng);
/* A process that is not hostile, and checks its own memory. */
bool chaos_foreign(struct stress *s, struct rng *rng);

#endif
