/* SPDX-License-Identifier: MIT */
/*
 * A crew: a few threads that process numbered items, outside any timing, with a
 * progress bar.  The first failure stops them, and its message is printed.
 */
#ifndef MEASURE_CREW_H
#define MEASURE_CREW_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct measure_crew {
	uint64_t nr_items;
	bool (*work)(struct measure_crew *crew, uint64_t item);
	void *ctx;
	uint64_t next;    /* atomic */
	uint64_t nr_done; /* atomic */
	bool failed;      /* atomic */
	pthread_mutex_t mutex;
	char error[512]; /* the first message; guarded by mutex */
};

/*
 * Process items 0 to @nr_items - 1 by work(); blocks until all are done or one has failed.
 * @title: of the progress bar; NULL: none.
 * Return: true when every item is done; else an error has been printed.
 */
bool measure_crew_run(struct measure_crew *crew, const char *title, uint64_t nr_items,
		      bool (*work)(struct measure_crew *crew, uint64_t item), void *ctx);

/* Record a failure.  Called by work(), which then returns false as well. */
bool measure_crew_fail(struct measure_crew *crew, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

#ifdef __cplusplus
}
#endif

#endif
