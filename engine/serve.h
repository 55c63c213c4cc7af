/* SPDX-License-Identifier: MIT */
/*
 * Serving a shard: from userfaultfd messages to the faults of each block.
 *
 * Runs on the shard's worker.  Must not be called in a read section; waits for nothing but the
 * kernel.
 */
#ifndef FLN_ENGINE_SERVE_H
#define FLN_ENGINE_SERVE_H

#include <stdbool.h>
#include <stdint.h>

struct fln_fault;
struct fln_shard;
struct fln_worker;

/* Read one batch of a shard's messages, act on its events and serve its faults. */
void fln_serve_shard(struct fln_worker *w, struct fln_shard *shard);

/* Sort by address, in place. */
void fln_sort_faults(struct fln_fault *f, uint32_t nr);

/* Serve faults of one shard.  Sorts @f. */
void fln_serve_faults(struct fln_worker *w, struct fln_shard *shard, struct fln_fault *f,
		      uint32_t nr);

/* Look at all held faults again, and serve those that are due. */
void fln_serve_held(struct fln_worker *w);

#endif
