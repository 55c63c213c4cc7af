/* SPDX-License-Identifier: MIT */
/*
 * Looking for blocks to release: a worker's sweeps over the stripes of its shards.
 */
#ifndef FLN_ENGINE_RELEASE_H
#define FLN_ENGINE_RELEASE_H

#include <stdbool.h>
#include <stdint.h>

struct fln_guest;
struct fln_shard;
struct fln_worker;

void fln_release_init(struct fln_worker *w);

/*
 * A slice of a sweep, if one is under way or due.  On the worker, between rounds and after all
 * other work (I7).  @served: faults came in; @kicked: page states have changed.
 */
void fln_release_round(struct fln_worker *w, bool served, bool kicked);

/*
 * For how long the worker may sleep, of @timeout_ns (-1: without limit), because of what is to be
 * released.
 */
int64_t fln_release_patience(const struct fln_worker *w, int64_t timeout_ns);

/* The worker has the shard now, or no longer has it. */
void fln_release_enter(struct fln_shard *shard);
void fln_release_forget(struct fln_worker *w, struct fln_shard *shard);

/*
 * Have all that can be released now released, whatever the option AUTO says, and wait until the
 * workers have looked at all blocks once.  In the guest's turn; guest->release.bytes says what they
 * have found.
 */
void fln_release_pass(struct fln_guest *guest);

#endif
