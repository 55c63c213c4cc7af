/* SPDX-License-Identifier: MIT */
/* What goes wrong: a thread per kind, which takes a step now and then. */
#ifndef STRESS_CHAOS_H
#define STRESS_CHAOS_H

#include "stress/stress.h"

/* Before anything runs: leaves out, and says so, what this machine cannot do. */
void chaos_prepare(struct stress *s);
int chaos_start(struct stress *s);
void chaos_stop(void);
/* All have taken notice of the end. */
bool chaos_ended(void);

#endif
