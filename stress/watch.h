/* SPDX-License-Identifier: MIT */
/* Nobody waits for ever. */
#ifndef STRESS_WATCH_H
#define STRESS_WATCH_H

#include "stress/stress.h"

/* The oldest touch that is under way: its age in seconds, and whose it is. */
double watch_oldest_touch(struct stress *s, struct toucher **whose);
/* Says what a thread waits for that does so for ever, and ends the program. */
_Noreturn void watch_lost(struct stress *s, struct toucher *t, double age_s);
/* While the run lasts: nothing is lost, no fault ends twice.  Returns the oldest wait. */
double watch_once(struct stress *s);

#endif
