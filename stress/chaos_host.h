/* SPDX-License-Identifier: MIT */
/* What a host does to a process on its own: locking, collapse, reclaim, stops. */
#ifndef STRESS_CHAOS_HOST_H
#define STRESS_CHAOS_HOST_H

#include "stress/stress.h"

/* Return: why this kind is left out here, or NULL. */
const char *chaos_host_prepare(struct stress *s);
bool chaos_host(struct stress *s, struct rng *rng);

#endif
