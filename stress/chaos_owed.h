/* SPDX-License-Identifier: MIT */
/* What a guest, or its embedder, is owed although a source hangs or fails. */
#ifndef STRESS_CHAOS_OWED_H
#define STRESS_CHAOS_OWED_H

#include "stress/stress.h"

bool chaos_owed(struct stress *s, struct rng *rng);

#endif
