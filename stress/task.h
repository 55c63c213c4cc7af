/* SPDX-License-Identifier: MIT */
/* Threads as the scheduler sees them. */
#ifndef STRESS_TASK_H
#define STRESS_TASK_H

#include <sys/types.h>

/* Whether a thread waits for something, or for a processor: for messages. */
const char *task_state(pid_t tid);
/* How many threads run, of all and of the engine's. */
void task_say_all(void);
/* The calling thread gets a processor before those that touch, where that is permitted. */
void task_go_first(void);

#endif
