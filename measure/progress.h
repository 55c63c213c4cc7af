/* SPDX-License-Identifier: MIT */
/*
 * A progress bar on stderr, updated ten times a second by a thread of its own.  If stderr is not
 * a terminal, or without a title, no thread is started and nothing is printed.
 */
#ifndef MEASURE_PROGRESS_H
#define MEASURE_PROGRESS_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct measure_progress {
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

void measure_progress_start(struct measure_progress *p, const char *title, uint64_t total,
			    uint64_t (*done)(const void *ctx), const void *ctx);
void measure_progress_stop(struct measure_progress *p);

#ifdef __cplusplus
}
#endif

#endif
