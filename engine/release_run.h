/* SPDX-License-Identifier: MIT */
/*
 * Releasing a run of blocks from its userfaultfd.
 *
 * By the worker of the run's shard, which alone releases its blocks; RCU read lock held.
 */
#ifndef FLN_ENGINE_RELEASE_RUN_H
#define FLN_ENGINE_RELEASE_RUN_H

#include "engine/state/guest.h"

#include <stdbool.h>
#include <stdint.h>

struct fln_worker;

/* Why a block cannot be released, or FLN_FATE_READY, or FLN_FATE_DONE. */
enum fln_fate fln_release_look(const struct fln_region *r, uint64_t block);

/*
 * Release the blocks [block, *end) of a region, which lie in one stripe of the shard and were
 * READY.  *end: behind the last one that the returned fate holds for.  BUSY, FAILED, LIMITED: they
 * stay as they are.
 */
enum fln_fate fln_release_run(struct fln_worker *w, struct fln_shard *shard, struct fln_region *r,
			      uint64_t block, uint64_t *end);

/* The bytes of the region in blocks [block, end). */
uint64_t fln_release_bytes(const struct fln_region *r, uint64_t block, uint64_t end);

#endif
