/* SPDX-License-Identifier: MIT */
/* Other memory of the process, mapped at addresses that regions leave. */
#ifndef STRESS_CHAOS_ADDRESSES_H
#define STRESS_CHAOS_ADDRESSES_H

#include "stress/stress.h"

bool chaos_addresses(struct stress *s, struct rng *rng);

#endif
