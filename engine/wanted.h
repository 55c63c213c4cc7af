/* SPDX-License-Identifier: MIT */
/*
 * Wanted pages: what threads that resolve their own faults ask a worker for.
 *
 * The first three calls are the faulting thread's, in its signal handler: they take no lock and
 * allocate nothing.  The others are the worker's.
 */
#ifndef FLN_ENGINE_WANTED_H
#define FLN_ENGINE_WANTED_H

#include "engine/state/wanted.h"

#include <stdbool.h>
#include <stdint.h>

struct fln_shard;
struct fln_worker;

/* Take a free slot.  NULL: all are in use; try again later. */
struct fln_wanted *fln_wanted_take(void);

/*
 * Hand the slot to @w.  Must be called in the RCU read section in which the region was found and
 * was not closing.
 */
void fln_wanted_submit(struct fln_worker *w, struct fln_wanted *wanted);

/* Sleep until the worker has ended the slot, then free it.  Not in a read section. */
enum fln_wanted_end fln_wanted_wait(struct fln_wanted *wanted);

/* Look at all wanted pages of the worker, and end those that are ready or have failed. */
void fln_serve_wanted(struct fln_worker *w);

/* Exclude @stopped_ns, in which the process was stopped, from their waiting times. */
void fln_wanted_credit(struct fln_worker *w, uint64_t stopped_ns);

/* End those in [start, end), which has been unmapped; as fln_drop_unmapped(). */
void fln_wanted_drop(struct fln_worker *w, const struct fln_shard *shard, uint64_t start,
		     uint64_t end);

#endif
