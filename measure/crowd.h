/* SPDX-License-Identifier: MIT */
/*
 * A crowd: threads that are kept, begin together, and whose work is measured.
 *
 * Each piece of work has three steps, and a step begins when all threads have done
 * the one before.  Only the middle one is measured: neither starting threads nor
 * what they prepare and clear away.
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

#define MEASURE_CROWD_MAX 65535u /* a plan's owners are 16 bits wide */

/* What threads do; each function is called on every thread with its number. */
struct measure_work {
	bool (*prepare)(void *ctx, uint32_t thread); /* optional; false: leave the rest out */
	void (*run)(void *ctx, uint32_t thread);
	void (*finish)(void *ctx, uint32_t thread); /* optional; after a prepare that was true */
	void *ctx;
};

struct measure_crowd_result {
	double seconds;                /* from the first thread's beginning to the last one's end */
	struct measure_usage from, to; /* around it, with the opening of the gate */
	struct measure_task touchers;  /* the crowd's threads, while they worked */
	struct measure_task others;    /* all other threads but the caller's: workers, handlers */
};

/* Return: NULL when there is no memory. */
struct measure_crowd *measure_crowd_create(void);

/* End the threads; NULL is permitted. */
void measure_crowd_destroy(struct measure_crowd *crowd);

/*
 * Have @nr threads work.  @cpus is a list of processors ("0-3,8"), one for each thread in
 * turn; NULL: wherever this process may run.
 * Return: true when all have worked; else it has said on stderr why not.
 */
bool measure_crowd_run(struct measure_crowd *crowd, uint32_t nr, const char *cpus,
		       const struct measure_work *work, struct measure_crowd_result *out);

#ifdef __cplusplus
}
#endif

#endif
