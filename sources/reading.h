/* SPDX-License-Identifier: MIT */
/*
 * Orders the publishing of fills after events that waiters have read but not handled yet.
 */
#ifndef FLN_SOURCES_READING_H
#define FLN_SOURCES_READING_H

#include "base/error.h"
#include "sources/filler.h"

#include <stdatomic.h>
#include <stdint.h>

/*
 * A waiter brackets with these two the reading of events and their handling, in which it tells
 * the image what was discarded.
 *
 * Reading a REMOVE event lets the thread that caused it continue: MADV_REMOVE punches the
 * pages out.  If a fill wrote such a page afterwards and published it before the waiter had
 * handled the event, discarded contents would reappear: the waiter could not tell this page
 * from one that was FILLED all the time, which MADV_DONTNEED leaves in the page cache.  So after
 * writing and before publishing, a fill waits until every waiter that was between these two
 * calls has left.  By then the image knows about the discard.  A waiter that begins to read
 * later also lets the thread continue later, which then punches out what the fill wrote.
 */
static inline void fln_filler_reading_begin(struct fln_filler *filler, uint32_t waiter)
{
	/* Sequentially consistent, as the load in fln_filler_wait_readers(): one sees the other. */
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
 * The same for a thread that closes a region and reads the events of shards without a
 * worker.  One thread at a time; others wait while the events of one read are handled.
 */
void fln_filler_closer_begin(struct fln_filler *filler);
void fln_filler_closer_end(struct fln_filler *filler);

/*
 * Called between writing and publishing, with no lock held.  Blocks until events that were read
 * are handled, mostly microseconds.
 */
void fln_filler_wait_readers(struct fln_filler *filler);

#endif
