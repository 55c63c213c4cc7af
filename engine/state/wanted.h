/* SPDX-License-Identifier: MIT */
/*
 * A wanted page: one that a thread in fln_resolve() has asked a worker for.
 *
 * The faulting thread resolves its fault in a signal handler, as a worker does otherwise
 * (resolve.c).  Filling a page takes locks, which a signal handler must not: for that it asks a
 * worker, and waits (wanted.c).
 */
#ifndef FLN_ENGINE_STATE_WANTED_H
#define FLN_ENGINE_STATE_WANTED_H

#include "engine/state/worker.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct fln_region;
struct fln_shard;

/* The state of a slot. */
enum fln_wanted_end {
	FLN_WANTED_FREE,   /* not in use */
	FLN_WANTED_OPEN,   /* a worker has it */
	FLN_WANTED_READY,  /* the page's state has changed: the thread looks again */
	FLN_WANTED_FAILED, /* the page has failed, and is to be poisoned */
	FLN_WANTED_CLOSED, /* the region is being closed */
	FLN_WANTED_GONE,   /* the address was unmapped */
};

/*
 * The thread takes a slot, submits it to a worker and sleeps on @state.  The worker ends it, and
 * counts the end of the fault (I4), because the thread may no longer find the region when it
 * wakes.
 */
struct fln_wanted {
	_Alignas(64) _Atomic uint32_t state; /* enum fln_wanted_end; a futex */
	uint32_t hole_pages; /* pages that are holes in the cache, FILLED or ZERO; 0: a fill */
	bool counts;         /* ending the slot ends a fault */
	struct fln_wanted *next;
	struct fln_region *region;
	struct fln_shard *shard;
	uint64_t image_page;
	struct fln_fault fault; /* the worker's; fault.held: it is a waiter of the image */
};

#endif
