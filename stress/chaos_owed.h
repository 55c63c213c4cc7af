/* SPDX-License-Identifier: MIT */
/*
 * Owed: what a guest or its embedder must get although a source hangs or fails, such as zeros
 * after a discard, the end of a populate, or an event.
 */
#ifndef STRESS_CHAOS_OWED_H
#define STRESS_CHAOS_OWED_H

#include "stress/stress.h"

bool chaos_owed(struct stress *s, struct rng *rng);

#endif
