/* SPDX-License-Identifier: MIT */
/*
 * Readers of events, and fills that wait for them before they publish.
 *
 * A waiter's sequence is odd while it has read events that it has not acted upon.
 */
#include "sources/reading.h"

#include "base/clock.h"
#include "base/lock.h"
#include "base/signals.h"
#include "sources/filler.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>

#define YIELDS 64u /* before a wait for readers of events sleeps */

void fln_filler_closer_begin(struct fln_filler *filler)
{
	_Atomic uint64_t *seq = &filler->reading[FLN_MAX_WAITERS].seq;
	uint64_t before;

	/* Fills that publish wait for this section: no handler that waits for contents runs in it. */
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

/* Wait until a waiter that is reading events has acted upon them. */
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
	/* Of those that there are: each is a cache line, and this is done for each publish. */
	for (uint32_t i = 0; i < filler->opts.nr_waiters; i++)
		wait_reader(&filler->reading[i]);
	wait_reader(&filler->reading[FLN_MAX_WAITERS]);
}
