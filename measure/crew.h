/* SPDX-License-Identifier: MIT */
/*
 * A crew: a few threads that work off numbered items, outside any timing, with a
 * progress bar.  The first failure ends the work and leaves a sentence.
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
	char error[512]; /* guarded by mutex; the first one stays */
};

/*
 * Without a @title there is no bar.
 * Return: true when every item is done; else it has said on stderr why not.
 */
bool measure_crew_run(struct measure_crew *crew, const char *title, uint64_t nr_items,
		      bool (*work)(struct measure_crew *crew, uint64_t item), void *ctx);

/* To be called by work(), which then returns false. */
bool measure_crew_fail(struct measure_crew *crew, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

#ifdef __cplusplus
}
#endif

#endif
