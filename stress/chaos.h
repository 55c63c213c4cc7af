/* SPDX-License-Identifier: MIT */
/* Injected trouble: a thread per kind, which takes a step from time to time. */
#ifndef STRESS_CHAOS_H
#define STRESS_CHAOS_H

#include "stress/stress.h"

/* Before anything runs: leaves out the kinds that this machine cannot run, and says so. */
void chaos_prepare(struct stress *s);
int chaos_start(struct stress *s);
void chaos_stop(void);
/* True when all of these threads have seen the end of the run. */
bool chaos_ended(void);

#endif
