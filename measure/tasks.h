/* SPDX-License-Identifier: MIT */
/*
 * Resources used by single threads of this process, as the kernel accounts them.
 */
#ifndef MEASURE_TASKS_H
#define MEASURE_TASKS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

struct measure_task {
	uint64_t cpu_ns;  /* user and system time */
	uint64_t wait_ns; /* runnable, waiting for a processor; 0 if the kernel does not count it */
	uint64_t nr_switches; /* voluntary context switches */
};

/* Add the usage of @tid so far; a thread that has ended adds nothing. */
void measure_task_add(pid_t tid, struct measure_task *sum);

/* Add the usage of all threads except the @nr in @except. */
void measure_tasks_add_others(const pid_t *except, uint32_t nr, struct measure_task *sum);

/* Does this kernel count wait_ns? */
bool measure_tasks_have_wait(void);

#ifdef __cplusplus
}
#endif

#endif
