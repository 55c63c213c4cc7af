/* SPDX-License-Identifier: MIT */
/*
 * What a guest keeps per range: advice, locks, streams of sequential reads, and the library's own
 * DONTNEEDs.
 */
#ifndef FLN_ENGINE_STATE_ADVISED_H
#define FLN_ENGINE_STATE_ADVISED_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct fln_job;

#define FLN_NR_STREAMS 8u

/* [addr, end) and its advice, or that it is locked. */
struct fln_range {
	uint64_t addr, end;
	uint32_t what;
};

/* Sorted, without overlaps.  Constant once published, and replaced as a whole. */
struct fln_ranges {
	uint32_t nr, capacity;
	struct fln_range range[];
};

/* A sequence of touches in address order, and the pages mapped ahead of it. */
struct fln_stream {
	uint64_t from;    /* faults in [from, end] continue the stream */
	uint64_t trigger; /* the first page of the last piece; left unmapped so that it faults */
	uint64_t end;     /* end of the pages mapped ahead */
	uint64_t used;    /* value of fln_ahead.clock at its last use */
	uint32_t blocks;  /* length of the last piece */
};

/* A guest's read-ahead.  Created when a range is first advised SEQUENTIAL. */
struct fln_ahead {
	struct fln_stream stream[FLN_NR_STREAMS];
	uint64_t clock;
	struct fln_job *jobs[FLN_NR_STREAMS];
};

/*
 * A DONTNEED by the library that is under way: its REMOVE events are no discards.  The kernel
 * raises them mapping by mapping, in address order.
 */
struct fln_quiet {
	uint64_t at, end; /* the part for which no event was read yet */
	struct fln_quiet *next;
};

/* All of these, for one guest. */
struct fln_advised {
	_Atomic(struct fln_ranges *) advice; /* changed in the guest's turn, read under RCU */
	struct fln_ranges *locked;           /* only in the guest's turn */
	_Atomic bool was_locked;             /* a range was locked at some time; never cleared */
	_Atomic(struct fln_ahead *) ahead;   /* set once; its fields are guarded by jobs.lock */
	struct fln_quiet *quiet;             /* guarded by jobs.lock */
};

#endif
