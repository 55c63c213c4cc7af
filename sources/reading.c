/* SPDX-License-Identifier: MIT */
/*
 * Orders the publishing of fills after events that waiters have read but not handled yet.
 *
 * A waiter's sequence number is odd while it may have read events that it has not handled.
 */
#include "sources/reading.h"

#include "base/clock.h"
#include "base/lock.h"
#include "base/signals.h"
#include "sources/filler.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>

#define YIELDS 64u /* before wait_reader() sleeps instead */

void fln_filler_closer_begin(struct fln_filler *filler)
{
	_Atomic uint64_t *seq = &filler->reading[FLN_MAX_WAITERS].seq;
	uint64_t before;

	/* Publishing waits for this section, so it must not run handlers that wait for contents. */
	fln_signals_hold();
	before = atomic_load(seq);
	while (before % 2 == 1 || !atomic_compare_exchange_weak(seq, &before, before + 1)) {
		(void)sched_yield();
		before = atomic_load(seq);
	}
}

void fln_filler_closer_end(struct fln_filler *filler)
{
	fln_filler_reading_end(filler, FLN_MAX_WAITERS);
	fln_signals_release();
}

/* Wait until a waiter has handled the events that it has read. */
static void wait_reader(const struct fln_reading *reading)
{
	uint64_t seq = atomic_load(&reading->seq);

	if (seq % 2 == 0)
		return;
	for (uint32_t round = 0; atomic_load(&reading->seq) == seq; round++) {
		if (round < YIELDS)
			(void)sched_yield();
		else
			fln_sleep_ns(50 * FLN_NS_PER_US);
	}
}

void fln_filler_wait_readers(struct fln_filler *filler)
{
	fln_lock_assert_none();
	/* Only existing waiters: each is a cache line, and this runs for every publish. */
	for (uint32_t i = 0; i < filler->opts.nr_waiters; i++)
		wait_reader(&filler->reading[i]);
	wait_reader(&filler->reading[FLN_MAX_WAITERS]);
}
