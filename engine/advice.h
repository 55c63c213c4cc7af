/* SPDX-License-Identifier: MIT */
/*
 * Ranges of a guest, seen from inside: what was advised, what is locked, streams
 * that are read ahead of, and discards of our own.
 */
#ifndef FLN_ENGINE_ADVICE_H
#define FLN_ENGINE_ADVICE_H

#include <faultlane/advice.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct fln_guest;
struct fln_job;
struct fln_region;

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

#define FLN_NR_STREAMS 8u

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
	_Atomic(struct fln_ahead *) ahead;   /* set once; its fields are guarded by jobs.lock */
	struct fln_quiet *quiet;             /* guarded by jobs.lock */
};

void fln_advised_deinit(struct fln_guest *guest);

/* populate_call.c: unlock what is locked of a region.  In the guest's turn. */
void fln_locked_forget(struct fln_region *region);

/* A region goes: nothing is advised or locked there any more.  In the guest's turn. */
void fln_advised_forget(struct fln_region *region);

/* ranges.c: is [addr, addr + len) the guest's, without a gap?  Return: 0; -EINVAL. */
int fln_range_check(struct fln_guest *guest, uint64_t addr, uint64_t len_bytes);

/*
 * ranges.c: a copy of @old (may be NULL) in which [addr, end) is @what; 0: nothing.
 * NULL: no memory.  fln_ranges_free() takes NULL.
 */
struct fln_ranges *fln_ranges_with(struct fln_guest *guest, const struct fln_ranges *old,
				   uint64_t addr, uint64_t end, uint32_t what);
void fln_ranges_free(struct fln_guest *guest, struct fln_ranges *ranges);
/* The first range that ends above @addr, or NULL. */
const struct fln_range *fln_ranges_next(const struct fln_ranges *ranges, uint64_t addr);

/*
 * advice.c: what was said of @addr, and where that ends.  RCU read lock held.
 * NULL: nothing, or FLN_ADVICE_NORMAL.
 */
const struct fln_range *fln_advice_at(const struct fln_guest *guest, uint64_t addr);

/*
 * events.c asks: has a discard of our own caused the REMOVE of [start, end)?  Each
 * is told of once: what comes a second time is somebody else's.
 */
bool fln_quiet_takes(struct fln_guest *guest, uint64_t start, uint64_t end);

/* ahead.c: make what read-ahead needs.  In the guest's turn.  Return: 0; -ENOMEM. */
int fln_ahead_prepare(struct fln_guest *guest);
void fln_ahead_deinit(struct fln_guest *guest);

/* ahead.c: forget streams in [addr, end), which is given up: who comes again begins anew. */
void fln_ahead_forget(struct fln_guest *guest, uint64_t addr, uint64_t end);

/* ahead.c: a fault at @addr, in a range that is called sequential and ends at @end. */
void fln_ahead_fault(struct fln_guest *guest, uint64_t addr, uint64_t end);

/*
 * pagemap.c: make the map forget pages of [addr, end) that it calls PRESENT and that
 * are not.  Returns how many pages are not mapped, as far as can be known.
 */
uint64_t fln_pagemap_verify(struct fln_guest *guest, uint64_t addr, uint64_t end);

#endif
