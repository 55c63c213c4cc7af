/* SPDX-License-Identifier: MIT */
/*
 * Serving a shard: from messages to blocks.
 */
#ifndef FLN_ENGINE_SERVE_H
#define FLN_ENGINE_SERVE_H

#include <stdbool.h>
#include <stdint.h>

struct fln_fault;
struct fln_shard;
struct fln_worker;

/* Read what a shard has and answer it.  The worker's thread only. */
void fln_serve_shard(struct fln_worker *w, struct fln_shard *shard);

/* By address, in place. */
void fln_sort_faults(struct fln_fault *f, uint32_t nr);

/* Answer faults of one shard; sorts @f. */
void fln_serve_faults(struct fln_worker *w, struct fln_shard *shard, struct fln_fault *f,
		      uint32_t nr);

/* Look at held faults again. */
void fln_serve_held(struct fln_worker *w);

#endif
