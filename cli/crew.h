/* SPDX-License-Identifier: MIT */
/*
 * A crew: a few threads that work off numbered items, outside any timing, with a
 * progress bar.  The first failure ends the work and leaves a sentence.
 */
#ifndef CLI_CREW_H
#define CLI_CREW_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct cli_crew {
	uint64_t nr_items;
	bool (*work)(struct cli_crew *crew, uint64_t item);
	void *ctx;
	_Atomic uint64_t next;
	_Atomic uint64_t nr_done;
	_Atomic bool failed;
	pthread_mutex_t mutex;
	char error[512]; /* guarded by mutex; the first one stays */
};

/* Return: true when every item is done; else it has said on stderr why not. */
bool cli_crew_run(struct cli_crew *crew, const char *title, uint64_t nr_items,
		  bool (*work)(struct cli_crew *crew, uint64_t item), void *ctx);

/* To be called by work(), which then returns false. */
bool cli_crew_fail(struct cli_crew *crew, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

#endif
