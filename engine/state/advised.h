/* SPDX-License-Identifier: MIT */
/*
 * Ranges of a guest: what was advised, what is locked, streams that are read ahead of, and
 * discards of our own.
 */
#ifndef FLN_ENGINE_STATE_ADVISED_H
#define FLN_ENGINE_STATE_ADVISED_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct fln_job;

#define FLN_NR_STREAMS 8u

/* [addr, end) and what was said of it. */
struct fln_range {
	uint64_t addr, end;
	uint32_t what;
};

/* Sorted, no two overlap; never changed once published, replaced as a whole. */
struct fln_ranges {
	uint32_t nr, capacity;
	struct fln_range range[];
};

/* Pages that are touched in order: where the next fault that goes on with it is due. */
struct fln_stream {
	uint64_t from;    /* faults in [from, end] are the stream's */
	uint64_t trigger; /* the first page of what was mapped ahead last: it is left out */
	uint64_t end;     /* of what is mapped ahead */
	uint64_t used;    /* when: a number */
	uint32_t blocks;  /* how many were mapped ahead last */
};

/* Read-ahead of a guest: made when a range is first called sequential. */
struct fln_ahead {
	struct fln_stream stream[FLN_NR_STREAMS];
	uint64_t clock;
	struct fln_job *jobs[FLN_NR_STREAMS];
};

/*
 * A DONTNEED of our own that is under way: the REMOVE events that it raises say
 * nothing about contents.  The kernel tells of it mapping by mapping, in order.
 */
struct fln_quiet {
	uint64_t at, end; /* what no event has told of yet */
	struct fln_quiet *next;
};

/* All of that, of one guest. */
struct fln_advised {
	_Atomic(struct fln_ranges *) advice; /* changed in the guest's turn, read under RCU */
	struct fln_ranges *locked;           /* in the guest's turn */
	_Atomic bool was_locked;             /* stays set */
	_Atomic(struct fln_ahead *) ahead;   /* set once; its fields are guarded by jobs.lock */
	struct fln_quiet *quiet;             /* guarded by jobs.lock */
};

#endif
