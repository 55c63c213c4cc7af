/* SPDX-License-Identifier: MIT */
/*
 * The stripe plan of a region: which shard serves which address.
 */
#ifndef FLN_SHARDING_STRIPES_H
#define FLN_SHARDING_STRIPES_H

#include "base/page.h"

#include <stdbool.h>
#include <stdint.h>

/* What a plan can describe. */
#define FLN_STRIPE_REGION_MAX_BYTES (UINT64_C(1) << 44) /* 16 TiB */
#define FLN_STRIPE_SHARDS_MAX 1024u

/* Stripes at both ends of a region whose others have to be larger than the second of these. */
#define FLN_STRIPE_FINE_SHIFT 23u   /* 8 MiB */
#define FLN_STRIPE_COARSE_SHIFT 26u /* 64 MiB */

/* The defaults of fln_default_nr_shards(), to be tuned by measurement. */
#define FLN_SHARDS_VCPUS_PER_SHARD 8u
#define FLN_SHARDS_DEFAULT_MAX 256u

/**
 * struct fln_stripe_plan - How a region is cut and dealt out; constant once made
 * @addr:         first byte of the region, page aligned
 * @len_bytes:    its length, a multiple of the page size
 * @base_addr:    @addr aligned down to 2 MiB: where stripe 0 would begin
 * @nr_stripes:   stripes that hold a part of the region, at least one
 * @stripe_shift: a stripe has 2^stripe_shift bytes, at least 2 MiB
 * @nr_head:      of them, small ones at the beginning; 0: all are of one size
 * @tail_index:   the first of the small ones at the end; nr_stripes: there are none
 * @tail_offset:  where that begins, counted from @base_addr
 * @nr_shards:    shards that the stripes are dealt out to
 * @first_shard:  shard of stripe 0, below @nr_shards, counted from @base_shard
 * @base_shard:   the first of the shards that the stripes are dealt out to
 */
struct fln_stripe_plan {
	uint64_t addr;
	uint64_t len_bytes;
	uint64_t base_addr;
	uint64_t nr_stripes;
	uint64_t nr_head;
	uint64_t tail_index;
	uint64_t tail_offset;
	uint32_t stripe_shift;
	uint32_t nr_shards;
	uint32_t first_shard;
	uint32_t base_shard;
};

/**
 * fln_stripe_plan_init() - Cut [addr, addr + len_bytes) into stripes
 * @plan:        written only on success; there is nothing to deinit
 * @addr:        page aligned; need not be aligned to 2 MiB
 * @len_bytes:   a multiple of the page size, one page to 16 TiB
 * @nr_shards:   1 to FLN_STRIPE_SHARDS_MAX; 1 gives one stripe
 * @first_shard: shard of the first stripe; counted modulo @nr_shards, so that a
 *               running number spreads small regions over the shards
 * @max_stripes: mappings that the region may use
 *
 * Stripes get the smallest size that keeps to @max_stripes.  Where that is large, a
 * quarter of them each go to the beginning and the end of the region, in small ones: what
 * is hot in the memory of a large guest, its kernel and what was allocated first, is most
 * often there, and would lie on one shard.
 *
 * Return:  0; -EINVAL for a range that is unaligned, empty, too long or wraps,
 *          or a number of shards out of range; -ENOSPC when @max_stripes is 0
 * Threads: any
 * Blocks:  no
 */
int fln_stripe_plan_init(struct fln_stripe_plan *plan, uint64_t addr, uint64_t len_bytes,
			 uint32_t nr_shards, uint32_t first_shard, uint64_t max_stripes);

/**
 * fln_stripe_plan_set_base() - Deal the stripes to shards from @base_shard on
 * @base_shard: so that the last is below FLN_STRIPE_SHARDS_MAX
 *
 * Before that they are the shards from 0 on.
 *
 * Threads: one, before others use the plan
 * Blocks:  no
 */
void fln_stripe_plan_set_base(struct fln_stripe_plan *plan, uint32_t base_shard);

/**
 * fln_stripe_first_shard() - Where the stripes of a guest's next region begin
 * @number:    of regions that the guest has had before
 * @nr_shards: that the stripes are dealt out to
 *
 * Successive regions begin far from each other, and evenly spread however many there are:
 * small regions, and the beginnings of larger ones, lie on different shards.
 *
 * Return:  below @nr_shards; 0 for the first region
 * Threads: any
 * Blocks:  no
 */
uint32_t fln_stripe_first_shard(uint32_t number, uint32_t nr_shards);

/**
 * fln_stripe_index() - Which stripe an address is in
 * @addr: in the region, any byte
 *
 * Return:  the index, below nr_stripes
 * Threads: any
 * Blocks:  no
 */
uint64_t fln_stripe_index(const struct fln_stripe_plan *plan, uint64_t addr);

/**
 * fln_stripe_shard() - Which shard serves an address
 * @addr: in the region, any byte
 *
 * Return:  the shard, from base_shard on, below base_shard + nr_shards
 * Threads: any
 * Blocks:  no
 */
uint32_t fln_stripe_shard(const struct fln_stripe_plan *plan, uint64_t addr);

/**
 * fln_stripe_get() - The part of the region that is one stripe
 * @index:     stripe, in address order
 * @addr:      first byte
 * @len_bytes: length; the first and the last stripe can be shorter than others
 * @shard:     that serves it
 *
 * To go through all: for (i = 0; fln_stripe_get(plan, i, &a, &l, &s); i++)
 *
 * Return:  true; false when there is no such stripe, and nothing is written
 * Threads: any
 * Blocks:  no
 */
bool fln_stripe_get(const struct fln_stripe_plan *plan, uint64_t index, uint64_t *addr,
		    uint64_t *len_bytes, uint32_t *shard);

/**
 * fln_stripe_clip() - Cut a window to the stripe of an address
 * @addr:    in the region and in the window
 * @lo_addr: first byte of the window; raised to the stripe's when below
 * @hi_addr: end of the window, exclusive; lowered to the stripe's when above
 *
 * The window may reach beyond the region; what is left of it does not.
 *
 * Threads: any
 * Blocks:  no
 */
void fln_stripe_clip(const struct fln_stripe_plan *plan, uint64_t addr, uint64_t *lo_addr,
		     uint64_t *hi_addr);

/**
 * fln_default_nr_shards() - Number of shards for a guest that did not say
 * @nr_vcpus:   threads that are expected to fault at a time
 * @nr_workers: threads that serve the guest
 *
 * A shard per FLN_SHARDS_VCPUS_PER_SHARD vCPUs keeps the threads that wait on
 * one userfaultfd few, and each worker gets a shard at least.
 *
 * Return:  a power of two, 1 to FLN_SHARDS_DEFAULT_MAX, at least @nr_workers
 *          unless that is above the maximum
 * Threads: any
 * Blocks:  no
 */
uint32_t fln_default_nr_shards(uint32_t nr_vcpus, uint32_t nr_workers);

#endif
