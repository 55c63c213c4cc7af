/* SPDX-License-Identifier: MIT */
/* Exhausted limits: descriptors, mappings, memory, and a worker without a processor. */
#ifndef STRESS_CHAOS_LIMITS_H
#define STRESS_CHAOS_LIMITS_H

#include "stress/stress.h"

bool chaos_descriptors(struct stress *s, struct rng *rng);
bool chaos_mappings(struct stress *s, struct rng *rng);
bool chaos_memory(struct stress *s, struct rng *rng);
bool chaos_stall(struct stress *s, struct rng *rng);
/* Prepare a kind.  Return: why it is left out here, or NULL. */
const char *chaos_limits_prepare(struct stress *s, enum chaos_kind kind);

#endif
