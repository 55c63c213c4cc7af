/* SPDX-License-Identifier: MIT */
/*
 * Held faults, and how a fault ends.
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
 * Is there room for one fault more of this guest?  No guest takes more than is left
 * for others, so that there always is some for a guest that has nothing there.
 */
bool fln_may_hold(const struct fln_worker *w, const struct fln_shard *shard);

/*
 * Keep a fault until something has changed.  When the table is full, or the guest has
 * its share of it, the fault is put back with the kernel: it sleeps on, and is woken to fault again
 * when there is room (fln_wake_overflowed()).
 */
void fln_hold(struct fln_worker *w, struct fln_shard *shard, const struct fln_fault *fault,
	      enum fln_held_reason reason);

/* A fault has ended: count how, and of which class it was (I4). */
void fln_end_fault(struct fln_shard *shard, const struct fln_fault *fault, enum fln_ending ending,
		   bool zero, uint64_t now_ns);

/* The process was stopped for so long: for no fault that waits it counts. */
void fln_held_credit(struct fln_worker *w, uint64_t stopped_ns);
void fln_fault_credit(struct fln_fault *fault, uint64_t stopped_ns);

/* With room in the table again, wake the threads that were put back, to fault again. */
void fln_wake_overflowed(struct fln_worker *w);

/* Is a fill under way, in @state, that will tell this fault's worker of its end? */
bool fln_fill_will_tell(const struct fln_image *image, const struct fln_fault *fault,
			enum fln_image_page state);

/* Let go of what is held for a shard: its range has been closed. */
void fln_drop_held(struct fln_worker *w, struct fln_shard *shard);

/*
 * Did a fault wait in [start, end), which has been unmapped?  Not one of a region
 * that is being closed: the closer has mapped over it, and it ends as the region's do.
 */
bool fln_fault_is_unmapped(const struct fln_shard *shard, const struct fln_fault *fault,
			   uint64_t start, uint64_t end);

/*
 * Such faults end; the threads that wait there are woken after this.  What lies there next is
 * none of their business: they would have it filled, and poisoned when it is late.
 */
void fln_drop_unmapped(struct fln_worker *w, struct fln_shard *shard, uint64_t start, uint64_t end);

/* An entry of an earlier table is taken out: its guest, and its shard, hold less. */
void fln_held_forget(struct fln_worker *w, const struct fln_held *h);

/* The table is about to be built anew: no page has an entry. */
void fln_held_clear_index(struct fln_worker *w);

#endif
