/* SPDX-License-Identifier: MIT */
/* Finds threads and steps that wait for ever. */
#ifndef STRESS_WATCH_H
#define STRESS_WATCH_H

#include "stress/stress.h"

/* The age of the oldest current touch in seconds, and its thread. */
double watch_oldest_touch(struct stress *s, struct toucher **whose);
/* @t has waited too long, @age_s seconds: report what it waits for, and end the program. */
_Noreturn void watch_lost(struct stress *s, struct toucher *t, double age_s);
/* Check once: no touch or step is lost, no fault ended twice.  Returns the oldest touch's age. */
double watch_once(struct stress *s);

#endif
