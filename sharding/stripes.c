/* SPDX-License-Identifier: MIT */
/*
 * Cuts a region into stripes and assigns them to shards.
 *
 * Theory of operation
 *
 *  base_addr   addr                                        addr + len_bytes
 *      |        |                                                 |
 *      |--------[=====|===============|===============|===========]---|
 *       stripe 0      |    stripe 1   |    stripe 2   |   stripe 3
 *
 * Stripes are 2^stripe_shift bytes and are counted from base_addr, the start of the
 * 2 MiB block that the region begins in.  So every boundary between two stripes is a
 * block boundary in address space, whatever the size of a stripe: no page table of 512 entries,
 * and no chunk of a block map (base/blockmap.h), belongs to two shards.  (Counting from a
 * multiple of the stripe size would work too, but waste up to a stripe.)
 * The first and the last stripe are cut to the region and may be a page long.
 *
 * Stripe i goes to shard base_shard + (first_shard + i) % nr_shards: a hot part of the guest
 * that is longer than a few stripes lands on many shards, and the shards' stripe counts
 * differ by at most one.
 *
 * Each stripe is a VMA of its own, because its neighbours are registered with
 * other userfaultfds, and the number of VMAs per process is limited.  The caller passes the
 * region's budget, the number of stripes that it may have, and their size is doubled until they
 * fit it.  With one shard the kernel would merge neighbours anyway, so there is one stripe.
 *
 * A region that is large for its budget has three parts, each with one stripe size:
 *
 *      |8M|8M| … |8M|       4 GiB       |      4 GiB      | … |8M|8M| … |8M|
 *       head                                                   tail
 *
 * A plan is constant after init, so readers need no lock.  Sums below do not overflow
 * 64 bits, because check_range() refuses ranges that wrap, and because the end of a
 * stripe is computed from what is left of the region, never by adding the stripe's size.
 */
#include "sharding/stripes.h"

#include "base/error.h"

#include <errno.h>
#include <inttypes.h>

/* With a smaller budget, fine ends would leave too few stripes for the middle. */
#define MIN_FOR_FINE_ENDS 64u

static int check_range(uint64_t addr, uint64_t len_bytes)
{
	if (!fln_is_aligned(addr, FLN_PAGE_BYTES))
		return fln_fail(EINVAL,
				"region address 0x%" PRIx64 " is not a multiple of %" PRIu64
				"; align it",
				addr, FLN_PAGE_BYTES);
	if (len_bytes == 0 || !fln_is_aligned(len_bytes, FLN_PAGE_BYTES))
		return fln_fail(EINVAL,
				"region length %" PRIu64 " must be a non-zero multiple of %" PRIu64
				"; round it",
				len_bytes, FLN_PAGE_BYTES);
	if (len_bytes > FLN_STRIPE_REGION_MAX_BYTES)
		return fln_fail(EINVAL,
				"region length %" PRIu64 " is above %" PRIu64
				"; use several regions",
				len_bytes, FLN_STRIPE_REGION_MAX_BYTES);
	if (len_bytes > UINT64_MAX - addr)
		return fln_fail(EINVAL,
				"region at 0x%" PRIx64 " of %" PRIu64 " bytes wraps; "
				"check address and length",
				addr, len_bytes);
	return 0;
}

/* The smallest shift at which @max_stripes stripes cover offset @last_offset. */
static uint32_t smallest_shift(uint64_t last_offset, uint64_t max_stripes)
{
	uint32_t shift = FLN_BLOCK_SHIFT;

	while (last_offset >> shift >= max_stripes)
		shift++;
	FLN_ASSERT(shift < 64);
	return shift;
}

/* Half the budget goes to 8 MiB stripes at both ends; coarse stripes cover the middle. */
static void refine_ends(struct fln_stripe_plan *plan, uint64_t last_offset, uint64_t max_stripes)
{
	uint64_t fine_bytes = UINT64_C(1) << FLN_STRIPE_FINE_SHIFT, nr_ends = max_stripes / 4;
	uint64_t head_bytes = nr_ends * fine_bytes, nr_middle, nr_tail;

	/* If the region's end is not 8 MiB-aligned, the tail has one more stripe. */
	plan->tail_offset =
		fln_align_down(last_offset + 1 - (nr_ends - 1) * fine_bytes, fine_bytes);
	FLN_ASSERT(plan->tail_offset > head_bytes);
	plan->stripe_shift =
		smallest_shift(plan->tail_offset - head_bytes - 1, max_stripes - 2 * nr_ends);
	nr_middle = ((plan->tail_offset - head_bytes - 1) >> plan->stripe_shift) + 1;
	nr_tail = ((last_offset - plan->tail_offset) >> FLN_STRIPE_FINE_SHIFT) + 1;
	plan->nr_head = nr_ends;
	plan->tail_index = nr_ends + nr_middle;
	plan->nr_stripes = plan->tail_index + nr_tail;
}

int fln_stripe_plan_init(struct fln_stripe_plan *plan, uint64_t addr, uint64_t len_bytes,
			 uint32_t nr_shards, uint32_t first_shard, uint64_t max_stripes)
{
	uint64_t base_addr = fln_align_down(addr, FLN_BLOCK_BYTES);
	uint64_t last_offset;
	uint32_t shift;
	int rc = check_range(addr, len_bytes);

	if (rc)
		return rc;
	if (nr_shards == 0 || nr_shards > FLN_STRIPE_SHARDS_MAX)
		return fln_fail(EINVAL, "%" PRIu32 " shards; use 1 to %u", nr_shards,
				FLN_STRIPE_SHARDS_MAX);
	if (max_stripes == 0)
		return fln_fail(ENOSPC,
				"the budget of mappings has none left for the region at 0x%" PRIx64
				"; raise max_stripes, and with it vm.max_map_count",
				addr);

	if (nr_shards == 1)
		max_stripes = 1;
	last_offset = addr + len_bytes - 1 - base_addr;
	shift = smallest_shift(last_offset, max_stripes);

	*plan = (struct fln_stripe_plan){
		.addr = addr,
		.len_bytes = len_bytes,
		.base_addr = base_addr,
		.nr_stripes = (last_offset >> shift) + 1,
		.tail_index = (last_offset >> shift) + 1,
		.tail_offset = last_offset + 1,
		.stripe_shift = shift,
		.nr_shards = nr_shards,
		.first_shard = first_shard % nr_shards,
	};
	if (shift > FLN_STRIPE_COARSE_SHIFT && max_stripes >= MIN_FOR_FINE_ENDS)
		refine_ends(plan, last_offset, max_stripes);
	FLN_ASSERT(plan->nr_stripes <= max_stripes);
	return 0;
}

void fln_stripe_plan_set_base(struct fln_stripe_plan *plan, uint32_t base_shard)
{
	FLN_ASSERT(base_shard <= FLN_STRIPE_SHARDS_MAX - plan->nr_shards);
	plan->base_shard = base_shard;
}

uint32_t fln_stripe_first_shard(uint32_t number, uint32_t nr_shards)
{
	/* Multiples of the golden ratio: each falls into the largest gap between earlier ones. */
	return (uint32_t)((uint64_t)(number * UINT32_C(0x9e3779b9)) * nr_shards >> 32);
}

uint64_t fln_stripe_index(const struct fln_stripe_plan *plan, uint64_t addr)
{
	uint64_t head_bytes = plan->nr_head << FLN_STRIPE_FINE_SHIFT;
	uint64_t offset = addr - plan->base_addr;

	FLN_DEBUG_ASSERT(addr >= plan->addr);
	FLN_DEBUG_ASSERT(addr - plan->addr < plan->len_bytes);
	if (offset < head_bytes)
		return offset >> FLN_STRIPE_FINE_SHIFT;
	if (offset >= plan->tail_offset)
		return plan->tail_index + ((offset - plan->tail_offset) >> FLN_STRIPE_FINE_SHIFT);
	return plan->nr_head + ((offset - head_bytes) >> plan->stripe_shift);
}

static uint32_t shard_of_index(const struct fln_stripe_plan *plan, uint64_t index)
{
	FLN_DEBUG_ASSERT(index < plan->nr_stripes);
	return plan->base_shard + (uint32_t)((plan->first_shard + index) % plan->nr_shards);
}

uint32_t fln_stripe_shard(const struct fln_stripe_plan *plan, uint64_t addr)
{
	return shard_of_index(plan, fln_stripe_index(plan, addr));
}

/* The part of stripe @index that lies in the region: [*lo_addr, *hi_addr). */
static void stripe_bounds(const struct fln_stripe_plan *plan, uint64_t index, uint64_t *lo_addr,
			  uint64_t *hi_addr)
{
	uint64_t start = (plan->nr_head << FLN_STRIPE_FINE_SHIFT) +
			 ((index - plan->nr_head) << plan->stripe_shift);
	uint64_t size_bytes = UINT64_C(1) << plan->stripe_shift;
	uint64_t end_addr = plan->addr + plan->len_bytes, start_addr, left_bytes;

	if (index < plan->nr_head) {
		size_bytes = UINT64_C(1) << FLN_STRIPE_FINE_SHIFT;
		start = index << FLN_STRIPE_FINE_SHIFT;
	} else if (index >= plan->tail_index) {
		size_bytes = UINT64_C(1) << FLN_STRIPE_FINE_SHIFT;
		start = plan->tail_offset + ((index - plan->tail_index) << FLN_STRIPE_FINE_SHIFT);
	} else {
		end_addr = plan->base_addr + plan->tail_offset;
	}
	start_addr = plan->base_addr + start;
	left_bytes = end_addr - start_addr;
	*lo_addr = start_addr < plan->addr ? plan->addr : start_addr;
	*hi_addr = start_addr + (left_bytes < size_bytes ? left_bytes : size_bytes);
	FLN_DEBUG_ASSERT(*lo_addr < *hi_addr);
}

bool fln_stripe_get(const struct fln_stripe_plan *plan, uint64_t index, uint64_t *addr,
		    uint64_t *len_bytes, uint32_t *shard)
{
	uint64_t hi_addr;

	if (index >= plan->nr_stripes)
		return false;
	stripe_bounds(plan, index, addr, &hi_addr);
	*len_bytes = hi_addr - *addr;
	*shard = shard_of_index(plan, index);
	return true;
}

void fln_stripe_clip(const struct fln_stripe_plan *plan, uint64_t addr, uint64_t *lo_addr,
		     uint64_t *hi_addr)
{
	uint64_t stripe_lo;
	uint64_t stripe_hi;

	FLN_DEBUG_ASSERT(*lo_addr <= addr);
	FLN_DEBUG_ASSERT(addr < *hi_addr);
	stripe_bounds(plan, fln_stripe_index(plan, addr), &stripe_lo, &stripe_hi);
	if (*lo_addr < stripe_lo)
		*lo_addr = stripe_lo;
	if (*hi_addr > stripe_hi)
		*hi_addr = stripe_hi;
}

uint32_t fln_default_nr_shards(uint32_t nr_vcpus, uint32_t nr_workers)
{
	uint32_t want = nr_vcpus / FLN_SHARDS_VCPUS_PER_SHARD +
			(nr_vcpus % FLN_SHARDS_VCPUS_PER_SHARD != 0);
	uint32_t nr_shards = 1;

	if (want < nr_workers)
		want = nr_workers;
	while (nr_shards < want && nr_shards < FLN_SHARDS_DEFAULT_MAX)
		nr_shards *= 2;
	FLN_ASSERT(fln_is_pow2(nr_shards));
	return nr_shards;
}
