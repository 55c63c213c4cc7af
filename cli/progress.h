/* SPDX-License-Identifier: MIT */
/*
 * A progress bar on stderr, when that is a terminal: a thread looks ten times a
 * second.  Elsewhere nothing is started and nothing is printed.
 */
#ifndef CLI_PROGRESS_H
#define CLI_PROGRESS_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct cli_progress {
	const char *title;
	uint64_t total;
	uint64_t (*done)(const void *ctx); /* called on the bar's thread */
	const void *ctx;
	bool running;
	bool stop; /* guarded by mutex */
	pthread_mutex_t mutex;
	pthread_cond_t cond;
	pthread_t thread;
};

void cli_progress_start(struct cli_progress *p, const char *title, uint64_t total,
			uint64_t (*done)(const void *ctx), const void *ctx);
void cli_progress_stop(struct cli_progress *p);

#endif
