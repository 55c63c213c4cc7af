/* SPDX-License-Identifier: MIT */
/* A look at every page after an end, by nobody else. */
#ifndef STRESS_LOOK_H
#define STRESS_LOOK_H

#include "stress/stress.h"

/* Stopped, and mapped still: for a while, with all that may happen to its page tables. */
void look_at_stopped(struct stress *s);
/* Destroyed, where mappings of our own are left. */
void look_at_destroyed(struct stress *s);

#endif
