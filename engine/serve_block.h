/* SPDX-License-Identifier: MIT */
/*
 * A worker serves the faults of one block, and later what their windows have left.
 */
#ifndef FLN_ENGINE_SERVE_BLOCK_H
#define FLN_ENGINE_SERVE_BLOCK_H

#include <stdint.h>

struct fln_fault;
struct fln_region;
struct fln_shard;
struct fln_worker;

/* Answer @nr faults that lie in one block of @region.  RCU read lock held. */
void fln_serve_block(struct fln_worker *w, struct fln_shard *shard, struct fln_region *region,
		     struct fln_fault *faults, uint32_t nr);

/*
 * Map what windows have left for later, oldest first, until @nr_pages
 * are mapped or nothing is left.
 */
void fln_serve_later(struct fln_worker *w, uint32_t nr_pages);

#endif
