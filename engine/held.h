/* SPDX-License-Identifier: MIT */
/*
 * The worker's table of held faults, and how a fault ends.
 *
 * The table is the worker's own, without a lock: all calls are made on its thread.  Those that
 * take no worker concern one fault only, which need not be in the table.  Nothing here blocks.
 */
#ifndef FLN_ENGINE_HELD_H
#define FLN_ENGINE_HELD_H

#include "engine/state/worker.h"
#include "sources/image.h"

#include <stdbool.h>
#include <stdint.h>

struct fln_shard;

enum fln_ending {
	FLN_ENDED_RESUMED,
	FLN_ENDED_POISONED,
	FLN_ENDED_FAILED
};

/*
 * Is there room for one more fault of this guest?  No guest may hold more entries than are free,
 * so that a guest which holds none always finds some.
 */
bool fln_may_hold(const struct fln_worker *w, const struct fln_shard *shard);

/*
 * Hold a fault until something has changed.  If the table is full, or the guest has its share of
 * it, the fault is put back with the kernel instead: its thread sleeps on, and is woken to fault
 * again when there is room (fln_wake_overflowed()).
 */
void fln_hold(struct fln_worker *w, struct fln_shard *shard, const struct fln_fault *fault,
	      enum fln_held_reason reason);

/* Count the end of a fault, and its class (@zero: zeros were due) (I4). */
void fln_end_fault(struct fln_shard *shard, const struct fln_fault *fault, enum fln_ending ending,
		   bool zero, uint64_t now_ns);

/* Exclude @stopped_ns, in which the process was stopped, from the waits of all held faults. */
void fln_held_credit(struct fln_worker *w, uint64_t stopped_ns);
/* The same for one fault. */
void fln_fault_credit(struct fln_fault *fault, uint64_t stopped_ns);

/* Once the table has room again, wake the threads whose faults were put back: they fault again. */
void fln_wake_overflowed(struct fln_worker *w);

/*
 * The fault's page is in @state.  Is it being filled by a fill that will kick this fault's worker
 * when it ends?
 */
bool fln_fill_will_tell(const struct fln_image *image, const struct fln_fault *fault,
			enum fln_image_page state);

/* End all faults that are held for a shard: it is being detached. */
void fln_drop_held(struct fln_worker *w, struct fln_shard *shard);

/*
 * Does the fault lie in [start, end), which has been unmapped?  False in a region that is being
 * closed: there the closer has mapped over the range, and the fault ends as the region's do.
 */
bool fln_fault_is_unmapped(const struct fln_shard *shard, const struct fln_fault *fault,
			   uint64_t start, uint64_t end);

/*
 * End such faults; the caller wakes the threads that wait there afterwards.  A fault that stayed
 * would be taken for one of whatever is mapped there next, which would be filled for it, and
 * poisoned if that were late.
 */
void fln_drop_unmapped(struct fln_worker *w, struct fln_shard *shard, uint64_t start, uint64_t end);

/* Count an entry of the table out, for its guest and its shard: it is taken out, or moved. */
void fln_held_forget(struct fln_worker *w, const struct fln_held *h);

/* Empty the index, before the table is rebuilt. */
void fln_held_clear_index(struct fln_worker *w);

#endif
