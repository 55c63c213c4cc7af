/* SPDX-License-Identifier: MIT */
/*
 * Serving the faults of one block, and later the postponed parts of their windows.
 *
 * Runs on the shard's worker.  Sleeps in install calls only.
 */
#ifndef FLN_ENGINE_SERVE_BLOCK_H
#define FLN_ENGINE_SERVE_BLOCK_H

#include <stdint.h>

struct fln_fault;
struct fln_region;
struct fln_shard;
struct fln_worker;

/* Serve @nr faults, sorted by address, of one block of @region.  RCU read lock held. */
void fln_serve_block(struct fln_worker *w, struct fln_shard *shard, struct fln_region *region,
		     struct fln_fault *faults, uint32_t nr);

/*
 * Map the postponed parts of windows, oldest first, until @nr_pages are mapped or nothing is left.
 * Not in a read section.
 */
void fln_serve_later(struct fln_worker *w, uint32_t nr_pages);

#endif
