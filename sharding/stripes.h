/* SPDX-License-Identifier: MIT */
/*
 * The stripe plan of a region: which shard serves which address.  Pure arithmetic.
 */
#ifndef FLN_SHARDING_STRIPES_H
#define FLN_SHARDING_STRIPES_H

#include "base/page.h"

#include <stdbool.h>
#include <stdint.h>

/* Limits of a plan. */
#define FLN_STRIPE_REGION_MAX_BYTES (UINT64_C(1) << 44) /* 16 TiB */
#define FLN_STRIPE_SHARDS_MAX 1024u

/* If stripes would exceed COARSE, both ends of the region use FINE ones. */
#define FLN_STRIPE_FINE_SHIFT 23u   /* 8 MiB */
#define FLN_STRIPE_COARSE_SHIFT 26u /* 64 MiB */

/* Parameters of fln_default_nr_shards(), to be tuned by measurement. */
#define FLN_SHARDS_VCPUS_PER_SHARD 8u
#define FLN_SHARDS_DEFAULT_MAX 256u

/**
 * struct fln_stripe_plan - How a region is cut into stripes; constant after init
 * @addr:         first byte of the region, page aligned
 * @len_bytes:    length of the region, a multiple of the page size
 * @base_addr:    @addr aligned down to 2 MiB, from which stripes are counted
 * @nr_stripes:   number of stripes, at least one
 * @nr_head:      of @nr_stripes, the fine ones at the beginning; 0: all have one size
 * @tail_index:   index of the first fine stripe at the end; nr_stripes: there is none
 * @tail_offset:  offset of that stripe from @base_addr
 * @stripe_shift: other stripes have 2^stripe_shift bytes, at least 2 MiB
 * @nr_shards:    number of shards that the stripes are assigned to
 * @first_shard:  shard of stripe 0, below @nr_shards, counted from @base_shard
 * @base_shard:   the first of these shards
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
 * @plan:        written only on success; needs no deinit
 * @addr:        page aligned; need not be aligned to 2 MiB
 * @len_bytes:   a multiple of the page size, one page to 16 TiB
 * @nr_shards:   1 to FLN_STRIPE_SHARDS_MAX; 1 gives one stripe
 * @first_shard: shard of the first stripe, taken modulo @nr_shards
 * @max_stripes: number of mappings that the region may use
 *
 * Stripes get the smallest size that fits @max_stripes.  If that is above
 * FLN_STRIPE_COARSE_SHIFT, a quarter of the budget each goes to fine stripes at the beginning
 * and at the end of the region: the hot memory of a large guest (its kernel, early
 * allocations) is mostly there, and coarse stripes would put all of it on one shard.
 *
 * Return:  0; -EINVAL for a range that is unaligned, empty, too long or wraps,
 *          or for @nr_shards out of range; -ENOSPC when @max_stripes is 0
 * Threads: any
 * Blocks:  no
 */
int fln_stripe_plan_init(struct fln_stripe_plan *plan, uint64_t addr, uint64_t len_bytes,
			 uint32_t nr_shards, uint32_t first_shard, uint64_t max_stripes);

/**
 * fln_stripe_plan_set_base() - Assign the stripes to the shards from @base_shard on
 * @base_shard: @base_shard + nr_shards must not exceed FLN_STRIPE_SHARDS_MAX
 *
 * Initially the shards are those from 0 on.
 *
 * Threads: one, before others use the plan
 * Blocks:  no
 */
void fln_stripe_plan_set_base(struct fln_stripe_plan *plan, uint32_t base_shard);

/**
 * fln_stripe_first_shard() - Choose the shard of the first stripe of a guest's next region
 * @number:    index of the region within its guest, from 0
 * @nr_shards: number of shards that the stripes are assigned to
 *
 * The results for successive regions are far apart, and evenly spread for any number of
 * regions.  So small regions, and the beginnings of larger ones, lie on different shards.
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
 * Return:  the stripe's index, below nr_stripes
 * Threads: any
 * Blocks:  no
 */
uint64_t fln_stripe_index(const struct fln_stripe_plan *plan, uint64_t addr);

/**
 * fln_stripe_shard() - Which shard serves an address
 * @addr: in the region, any byte
 *
 * Return:  the shard, in [base_shard, base_shard + nr_shards)
 * Threads: any
 * Blocks:  no
 */
uint32_t fln_stripe_shard(const struct fln_stripe_plan *plan, uint64_t addr);

/**
 * fln_stripe_get() - Get the range and the shard of a stripe
 * @index:     index of the stripe, in address order
 * @addr:      receives its first byte
 * @len_bytes: receives its length; the first and the last stripe can be shorter than others
 * @shard:     receives the shard that serves it
 *
 * To visit all: for (i = 0; fln_stripe_get(plan, i, &a, &l, &s); i++)
 *
 * Return:  true; false: there is no such stripe, and nothing was written
 * Threads: any
 * Blocks:  no
 */
bool fln_stripe_get(const struct fln_stripe_plan *plan, uint64_t index, uint64_t *addr,
		    uint64_t *len_bytes, uint32_t *shard);

/**
 * fln_stripe_next_of() - The first stripe of a shard, from a stripe on
 * @index: index of the stripe to begin with
 * @shard: the shard
 *
 * Return:  the stripe's index; nr_stripes: there is none
 * Threads: any
 * Blocks:  no
 */
uint64_t fln_stripe_next_of(const struct fln_stripe_plan *plan, uint64_t index, uint32_t shard);

/**
 * fln_stripe_clip() - Clip a window to the stripe of an address
 * @addr:    in the region and in the window
 * @lo_addr: first byte of the window; raised to the stripe's when below
 * @hi_addr: end of the window, exclusive; lowered to the stripe's when above
 *
 * The window may reach beyond the region; the result never does.
 *
 * Threads: any
 * Blocks:  no
 */
void fln_stripe_clip(const struct fln_stripe_plan *plan, uint64_t addr, uint64_t *lo_addr,
		     uint64_t *hi_addr);

/**
 * fln_default_nr_shards() - The default number of shards of a guest
 * @nr_vcpus:   number of threads that are expected to fault at once
 * @nr_workers: number of threads that serve the guest
 *
 * One shard per FLN_SHARDS_VCPUS_PER_SHARD vCPUs keeps few threads waiting on
 * each userfaultfd, and every worker gets at least one shard.
 *
 * Return:  a power of two, 1 to FLN_SHARDS_DEFAULT_MAX, at least @nr_workers
 *          unless that is above the maximum
 * Threads: any
 * Blocks:  no
 */
uint32_t fln_default_nr_shards(uint32_t nr_vcpus, uint32_t nr_workers);

#endif
