/* SPDX-License-Identifier: MIT */
/*
 * Which shard and which worker serve an address of a region, by the engine's plan.
 *
 * Looks up what does not change while the region exists.  Takes no lock.
 */
#ifndef FLN_ENGINE_OWNERS_H
#define FLN_ENGINE_OWNERS_H

#include <stdbool.h>
#include <stdint.h>

struct fln_guest;
struct fln_region;
struct fln_shard;
struct fln_worker;

/* The shard that serves @addr of a region. */
struct fln_shard *fln_region_shard_at(const struct fln_region *r, uint64_t addr);

/* The worker that serves a shard of a guest: one of the shard's node. */
struct fln_worker *fln_guest_worker(const struct fln_guest *guest, uint32_t shard);

/* The shards that a region's stripes are distributed over: *nr of the guest's, from *first on. */
void fln_region_shards(const struct fln_region *r, uint32_t *first, uint32_t *nr);

#endif
