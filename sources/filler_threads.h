/* SPDX-License-Identifier: MIT */
/*
 * The filler threads, which read sources.
 */
#ifndef FLN_SOURCES_FILLER_THREADS_H
#define FLN_SOURCES_FILLER_THREADS_H

#include <stdint.h>

struct fln_filler;

/*
 * Start the threads.  Return: 0; -ENOMEM or as fln_thread_create(), with no thread left running;
 * -EBUSY after a stop that timed out.
 */
int fln_filler_start(struct fln_filler *filler);

/*
 * Stop the threads after their current reads; unpublished pages of their fills go
 * back to UNFILLED.  Queued fills stay queued.  Blocks.
 * Return: 0; -ETIMEDOUT when a read is still in progress after @limit_ns (UINT64_MAX: no limit).
 */
int fln_filler_stop(struct fln_filler *filler, uint64_t limit_ns);

/* Sleep for @ns before a retry, or until the fillers stop. */
void fln_filler_pause(struct fln_filler *filler, uint64_t ns);

#endif
