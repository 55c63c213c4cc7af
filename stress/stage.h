/* SPDX-License-Identifier: MIT */
/* How far the steps of chaos have come. */
#ifndef STRESS_STAGE_H
#define STRESS_STAGE_H

#include "stress/stress.h"

extern const char stage_waits_turn[], stage_waits_others[];

/* The calling thread takes the steps of a kind. */
void stage_thread(enum chaos_kind kind);
/*
 * What this thread's step does from now on: it has its time anew.  NULL: just what it is
 * named after.  Nothing where this is no thread of chaos.
 */
void stage_begin(const char *stage);
/* The step is over. */
void stage_end(void);

/* Of the steps under way the one that is longest in its stage: for how many seconds. */
double stage_oldest(const struct stress *s, enum chaos_kind *kind);
/* What is under way, a line each. */
void stage_say_all(const struct stress *s);

#endif
