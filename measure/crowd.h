/* SPDX-License-Identifier: MIT */
/*
 * A crowd: a pool of threads that start work together and whose work is measured.
 *
 * Each piece of work has three steps: prepare, run, finish.  A step begins when all threads
 * have completed the one before.  Only run is measured; starting threads, prepare and finish
 * are not.
 */
#ifndef MEASURE_CROWD_H
#define MEASURE_CROWD_H

#include "measure/machine.h"
#include "measure/tasks.h"

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct measure_crowd;

#define MEASURE_CROWD_MAX 65535u /* thread numbers fit in measure_plan.owners, 16 bits */

/* The work of a crowd; each function is called on every thread, with the thread's number. */
struct measure_work {
	bool (*prepare)(void *ctx,
			uint32_t thread); /* optional; false on any thread: nothing runs */
	void (*run)(void *ctx, uint32_t thread);
	void (*finish)(void *ctx, uint32_t thread); /* optional; only where prepare returned true */
	void *ctx;
};

struct measure_crowd_result {
	double seconds;                /* from the first thread's start to the last one's end */
	struct measure_usage from, to; /* before and after, including the opening of the gate */
	struct measure_task touchers;  /* the crowd's working threads */
	struct measure_task others;    /* all other threads but the caller: workers, handlers */
};

/* Return: NULL when out of memory. */
struct measure_crowd *measure_crowd_create(void);

/* End the threads; NULL is permitted. */
void measure_crowd_destroy(struct measure_crowd *crowd);

/*
 * Run @work on @nr threads; blocks until it is done.  @cpus: a list of processors ("0-3,8") to
 * pin the threads to in turn; NULL: any that this process may use.
 * Return: true when all threads have run; else an error has been printed.
 */
bool measure_crowd_run(struct measure_crowd *crowd, uint32_t nr, const char *cpus,
		       const struct measure_work *work, struct measure_crowd_result *out);

#ifdef __cplusplus
}
#endif

#endif
