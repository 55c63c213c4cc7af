/* SPDX-License-Identifier: MIT */
/* Threads as the scheduler sees them. */
#ifndef STRESS_TASK_H
#define STRESS_TASK_H

#include <sys/types.h>

/* For messages: whether a thread sleeps, or runs or waits for a processor. */
const char *task_state(pid_t tid);
/* Print how many threads run, of all and of the engine's. */
void task_say_all(void);
/* Raise the calling thread's priority above the touching threads, where that is permitted. */
void task_raise_priority(void);

#endif
