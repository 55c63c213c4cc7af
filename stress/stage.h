/* SPDX-License-Identifier: MIT */
/* Stages of the steps of chaos, so that a step that hangs is found and described. */
#ifndef STRESS_STAGE_H
#define STRESS_STAGE_H

#include "stress/stress.h"

extern const char stage_waits_turn[], stage_waits_others[];

/* Declare that the calling thread takes the steps of @kind. */
void stage_thread(enum chaos_kind kind);
/*
 * Begin a stage of this thread's step, with a time limit of its own.  NULL: the step has only one
 * stage.  Does nothing on threads that take no steps of chaos.
 */
void stage_begin(const char *stage);
/* The step is over. */
void stage_end(void);

/* The age in seconds of the oldest stage of all steps under way, and its kind. */
double stage_oldest(enum chaos_kind *kind);
/* Print the steps under way, one per line. */
void stage_say_all(void);

#endif
