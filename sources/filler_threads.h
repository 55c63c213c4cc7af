/* SPDX-License-Identifier: MIT */
/*
 * The threads that read sources.
 */
#ifndef FLN_SOURCES_FILLER_THREADS_H
#define FLN_SOURCES_FILLER_THREADS_H

#include <stdint.h>

struct fln_filler;

/* Return: 0; as fln_thread_create(), or -ENOMEM, and nothing left running; -EBUSY after a stop that timed out. */
int fln_filler_start(struct fln_filler *filler);

/*
 * End the threads after what they are reading now; the rest of their fills goes
 * back to UNFILLED.  Queued fills stay queued.
 * Return: 0; -ETIMEDOUT when one is still inside its source after @limit_ns (UINT64_MAX: waits
 * for ever).
 */
int fln_filler_stop(struct fln_filler *filler, uint64_t limit_ns);

/* Sleep before another attempt; not longer than until the fillers are to stop. */
void fln_filler_pause(struct fln_filler *filler, uint64_t ns);

#endif
