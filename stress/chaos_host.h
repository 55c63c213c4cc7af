/* SPDX-License-Identifier: MIT */
/* What the host does to us. */
#ifndef STRESS_CHAOS_HOST_H
#define STRESS_CHAOS_HOST_H

#include "stress/stress.h"

const char *chaos_host_prepare(struct stress *s);
bool chaos_host(struct stress *s, struct rng *rng);

#endif
