/* SPDX-License-Identifier: MIT */
/*
 * Cuts a region into stripes and deals them out to shards.
 *
 * Theory of operation
 *
 *  base_addr   addr                                        addr + len_bytes
 *      |        |                                                 |
 *      |--------[=====|===============|===============|===========]---|
 *       stripe 0      |    stripe 1   |    stripe 2   |   stripe 3
 *
 * Stripes are 2^stripe_shift bytes and are counted from base_addr, the 2 MiB
 * block that the region begins in.  So every boundary between two stripes is a
 * boundary of a block in address space, whatever the size of a stripe: no page
 * table, and no chunk of the page-state map, has two shards.  (Counting from a
 * multiple of the stripe size would do too, and would waste up to a stripe.)
 * The first and the last stripe are cut to the region and may be a page long.
 *
 * Stripe i goes to shard base_shard + (first_shard + i) % nr_shards: a hot part of the guest
 * that is longer than a few stripes lands on many shards, and no shard has two
 * stripes more than another.
 *
 * Each stripe is a mapping (VMA) of its own, because its neighbours belong to
 * other userfaultfds, and mappings are limited per process.  The caller shares
 * out that budget, and the stripes grow until it is kept.  With one shard the
 * kernel would merge neighbours anyway, so there is one stripe.
 *
 * A plan is constant after init, so readers need no lock.  Sums below stay in
 * 64 bits because a range that would wrap is refused, and because the end of a
 * stripe is found by what is left of the region, never by adding its full size.
 */
#include "sharding/stripes.h"

#include "base/error.h"

#include <errno.h>
#include <inttypes.h>

static int check_range(uint64_t addr, uint64_t len_bytes)
{
	if (!fln_is_aligned(addr, FLN_PAGE_BYTES))
		return fln_fail(EINVAL,
				"region address 0x%" PRIx64 " is not a multiple of %" PRIu64
				"; align it",
				addr, FLN_PAGE_BYTES);
	if (len_bytes == 0 || !fln_is_aligned(len_bytes, FLN_PAGE_BYTES))
		return fln_fail(EINVAL,
				"region length %" PRIu64 " is not a multiple of %" PRIu64
				" above zero; round it",
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

int fln_stripe_plan_init(struct fln_stripe_plan *plan, uint64_t addr, uint64_t len_bytes,
			 uint32_t nr_shards, uint32_t first_shard, uint64_t max_stripes)
{
	uint64_t base_addr = fln_align_down(addr, FLN_BLOCK_BYTES);
	uint32_t shift = FLN_BLOCK_SHIFT;
	uint64_t last_offset;
	int rc = check_range(addr, len_bytes);

	if (rc)
		return rc;
	if (nr_shards == 0 || nr_shards > FLN_STRIPE_SHARDS_MAX)
		return fln_fail(EINVAL, "%" PRIu32 " shards; use 1 to %u", nr_shards,
				FLN_STRIPE_SHARDS_MAX);
	if (max_stripes == 0)
		return fln_fail(ENOSPC,
				"no mapping is left for the region at 0x%" PRIx64
				"; raise max_stripes, and vm.max_map_count with it",
				addr);

	if (nr_shards == 1)
		max_stripes = 1;
	last_offset = addr + len_bytes - 1 - base_addr;
	while (last_offset >> shift >= max_stripes)
		shift++;
	FLN_ASSERT(shift < 64);

	*plan = (struct fln_stripe_plan){
		.addr = addr,
		.len_bytes = len_bytes,
		.base_addr = base_addr,
		.nr_stripes = (last_offset >> shift) + 1,
		.stripe_shift = shift,
		.nr_shards = nr_shards,
		.first_shard = first_shard % nr_shards,
	};
	FLN_ASSERT(plan->nr_stripes <= max_stripes);
	return 0;
}

void fln_stripe_plan_set_base(struct fln_stripe_plan *plan, uint32_t base_shard)
{
	FLN_ASSERT(base_shard <= FLN_STRIPE_SHARDS_MAX - plan->nr_shards);
	plan->base_shard = base_shard;
}

uint64_t fln_stripe_index(const struct fln_stripe_plan *plan, uint64_t addr)
{
	FLN_DEBUG_ASSERT(addr >= plan->addr);
	FLN_DEBUG_ASSERT(addr - plan->addr < plan->len_bytes);
	return (addr - plan->base_addr) >> plan->stripe_shift;
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

/* The part of stripe @index that is in the region: [*lo_addr, *hi_addr). */
static void stripe_bounds(const struct fln_stripe_plan *plan, uint64_t index, uint64_t *lo_addr,
			  uint64_t *hi_addr)
{
	uint64_t size_bytes = UINT64_C(1) << plan->stripe_shift;
	uint64_t start_addr = plan->base_addr + (index << plan->stripe_shift);
	uint64_t left_bytes = plan->addr + plan->len_bytes - start_addr;

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
