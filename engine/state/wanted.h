/* SPDX-License-Identifier: MIT */
/*
 * In-context regions, seen from inside: how they are found, and which worker helps.
 *
 * A region with FLN_DELIVERY_IN_CONTEXT lies on shards of its own, because
 * UFFD_FEATURE_SIGBUS belongs to a whole userfaultfd.  The thread that faults finds
 * it by a registry of all such regions of the process, in a signal handler, and
 * does there what a worker does otherwise (resolve.c).  What it may not do there,
 * because it takes locks, it asks a worker for and waits (wanted.c).
 */
#ifndef FLN_ENGINE_STATE_WANTED_H
#define FLN_ENGINE_STATE_WANTED_H

#include "engine/state/worker.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct fln_region;
struct fln_shard;

/* What became of a page that somebody waits for in context. */
enum fln_wanted_end {
	FLN_WANTED_FREE,   /* the slot is nobody's */
	FLN_WANTED_OPEN,   /* a worker has it */
	FLN_WANTED_READY,  /* look again */
	FLN_WANTED_FAILED, /* to be poisoned */
	FLN_WANTED_CLOSED, /* the region is being closed */
	FLN_WANTED_GONE,   /* its place was unmapped */
};

/*
 * wanted.c: a page that a thread waits for in its own context.  The thread takes a
 * slot, hands it to a worker and sleeps on @state; the worker ends it, and the fault
 * with it (I4), for the thread may not find the region any more when it wakes.
 */
struct fln_wanted {
	_Alignas(64) _Atomic uint32_t state; /* enum fln_wanted_end; a futex */
	uint32_t hole_pages;                 /* it is FILLED, and so many have no page */
	bool counts;                         /* its end is the end of a fault */
	struct fln_wanted *next;
	struct fln_region *region;
	struct fln_shard *shard;
	uint64_t image_page;
	struct fln_fault fault; /* the worker's; held: it is registered with the image */
};

#endif
