/* SPDX-License-Identifier: MIT */
/*
 * Readers of events, and fills that wait for them before they publish.
 */
#ifndef FLN_SOURCES_READING_H
#define FLN_SOURCES_READING_H

#include "base/error.h"
#include "sources/filler.h"

#include <stdatomic.h>
#include <stdint.h>

/*
 * A waiter reads events, between these two, and tells the image what was given up.
 *
 * Reading an event lets the thread that caused it go on: MADV_REMOVE punches its
 * pages out.  A fill that writes such a page afterwards, and publishes it before
 * the waiter has got round to the event, would bring contents back that were
 * given up: the waiter cannot tell such a page from one that was there all the
 * time and that MADV_DONTNEED leaves alone.  So a fill that has written pages and is
 * about to publish them waits until no reader is in between that was when the pages
 * had been written.  If the page was given up, the image knows it then.  A waiter that
 * begins to read later lets the thread go on later: it punches out what was written.
 */
static inline void fln_filler_reading_begin(struct fln_filler *filler, uint32_t waiter)
{
	/* Sequentially consistent, as the look in fln_filler_wait_readers(): one sees the other. */
	uint64_t before = atomic_fetch_add(&filler->reading[waiter].seq, 1);

	FLN_DEBUG_ASSERT(waiter < filler->opts.nr_waiters || waiter == FLN_MAX_WAITERS);
	FLN_DEBUG_ASSERT(before % 2 == 0);
	(void)before;
}

static inline void fln_filler_reading_end(struct fln_filler *filler, uint32_t waiter)
{
	uint64_t before = atomic_fetch_add(&filler->reading[waiter].seq, 1);

	FLN_DEBUG_ASSERT(before % 2 == 1);
	(void)before;
}

/*
 * The same for a thread that closes a region and reads the events of shards that no worker
 * has.  One at a time; others wait, as long as the events of one read take.
 */
void fln_filler_closer_begin(struct fln_filler *filler);
void fln_filler_closer_end(struct fln_filler *filler);

/* Between writing and publishing; no lock held.  As long as events take, mostly microseconds. */
void fln_filler_wait_readers(struct fln_filler *filler);

#endif
