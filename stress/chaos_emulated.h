/* SPDX-License-Identifier: MIT */
/* With --guest kvm: instructions that KVM emulates. */
#ifndef STRESS_CHAOS_EMULATED_H
#define STRESS_CHAOS_EMULATED_H

#include "stress/stress.h"

bool chaos_emulated(struct stress *s, struct rng *rng);

#endif
