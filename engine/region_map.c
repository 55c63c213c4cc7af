/* SPDX-License-Identifier: MIT */
/*
 * States of a region's pages: claim, settle, forget.
 *
 * The CLAIMED bit decides which thread may change a page's other planes.  A claimer that finds its
 * page PRESENT or POISONED once it has the bit releases it again: so claims leave such pages out
 * without a lock.
 */
#include "engine/region_map.h"

#include "base/blockmap.h"
#include "base/error.h"
#include "base/page.h"
#include "base/plant.h"
#include "base/rcu.h"

#include <stdbool.h>

#define TO(state) (1u << (state))

/* The states that may follow each state. */
static const unsigned char page_next[] = {
	[FLN_PAGE_ABSENT] = TO(FLN_PAGE_CLAIMED),
	[FLN_PAGE_CLAIMED] = TO(FLN_PAGE_PRESENT) | TO(FLN_PAGE_ABSENT) | TO(FLN_PAGE_POISONED),
	[FLN_PAGE_PRESENT] = TO(FLN_PAGE_ABSENT) | TO(FLN_PAGE_POISONED),
	[FLN_PAGE_POISONED] = TO(FLN_PAGE_ABSENT) | TO(FLN_PAGE_CLAIMED),
};

_Static_assert(sizeof(page_next) == FLN_PAGE_NR_STATES, "last state has a row");

bool fln_region_may_move(enum fln_region_page from, enum fln_region_page to)
{
	FLN_ASSERT(from < FLN_PAGE_NR_STATES && to < FLN_PAGE_NR_STATES);
	return page_next[from] & TO(to);
}

static void assert_all(struct fln_chunk *c, uint32_t plane, const struct fln_mask *pages)
{
#ifdef FLN_DEBUG
	struct fln_mask have = fln_chunk_load(c, plane);
	struct fln_mask wrong = fln_mask_andnot(pages, &have);

	FLN_ASSERT(fln_mask_empty(&wrong));
#else
	(void)c;
	(void)plane;
	(void)pages;
#endif
}

struct fln_mask fln_region_claim(struct fln_chunk *c, const struct fln_mask *pages)
{
	struct fln_mask won = fln_chunk_set(c, FLN_PLANE_CLAIMED, pages); /* I3 */
	struct fln_mask present = fln_chunk_load(c, FLN_PLANE_PRESENT);
	struct fln_mask poisoned = fln_chunk_load(c, FLN_PLANE_POISONED);
	struct fln_mask taken = fln_mask_or(&present, &poisoned);

	FLN_DEBUG_ASSERT(fln_region_may_move(FLN_PAGE_ABSENT, FLN_PAGE_CLAIMED));
	taken = fln_mask_and(&taken, &won);
	fln_chunk_clear(c, FLN_PLANE_CLAIMED, &taken);
	return fln_mask_andnot(&won, &taken);
}

struct fln_mask fln_region_claim_poisoned(struct fln_chunk *c, const struct fln_mask *pages)
{
	struct fln_mask won = fln_chunk_set(c, FLN_PLANE_CLAIMED, pages); /* I3 */
	struct fln_mask poisoned = fln_chunk_load(c, FLN_PLANE_POISONED), others;

	FLN_DEBUG_ASSERT(fln_region_may_move(FLN_PAGE_POISONED, FLN_PAGE_CLAIMED));
	others = fln_mask_andnot(&won, &poisoned);
	fln_chunk_clear(c, FLN_PLANE_CLAIMED, &others);
	return fln_mask_and(&won, &poisoned);
}

/*
 * The first page's bit decides, because several threads that claim all 512 could win some each.
 * Its owner can miss others only while a collapse or a forget holds them for a moment.
 */
struct fln_mask fln_region_claim_whole(struct fln_chunk *c)
{
	struct fln_mask first = fln_mask_range(0, 1), rest = fln_mask_range(1, FLN_BLOCK_PAGES);
	struct fln_mask won = fln_region_claim(c, &first);

	if (fln_mask_empty(&won))
		return won;
	rest = fln_region_claim(c, &rest);
	won = fln_mask_or(&won, &rest);
	if (fln_mask_count(&won) == FLN_BLOCK_PAGES)
		return won;
	fln_region_settle(c, &won, FLN_PAGE_ABSENT);
	return (struct fln_mask){ { 0 } };
}

void fln_region_settle(struct fln_chunk *c, const struct fln_mask *pages, enum fln_region_page to)
{
	struct fln_mask lifted;

	FLN_DEBUG_ASSERT(fln_region_may_move(FLN_PAGE_CLAIMED, to));
	assert_all(c, FLN_PLANE_CLAIMED, pages);
	if (to == FLN_PAGE_PRESENT) {
		lifted = fln_chunk_load(c, FLN_PLANE_POISONED);
		lifted = fln_mask_and(&lifted, pages);
		if (!fln_mask_empty(&lifted))
			fln_chunk_clear(c, FLN_PLANE_POISONED, &lifted);
		(void)fln_chunk_set(c, FLN_PLANE_PRESENT, pages);
	} else if (to == FLN_PAGE_POISONED) {
		(void)fln_chunk_set(c, FLN_PLANE_POISONED, pages);
	}
	if (fln_planted_in(FLN_BUG_LEFT_CLAIMED, 256))
		return;
	fln_chunk_clear(c, FLN_PLANE_CLAIMED, pages);
}

void fln_region_forget(struct fln_chunk *c, const struct fln_mask *pages)
{
	struct fln_mask won = fln_chunk_set(c, FLN_PLANE_CLAIMED, pages);

	FLN_DEBUG_ASSERT(fln_region_may_move(FLN_PAGE_PRESENT, FLN_PAGE_ABSENT));
	fln_chunk_clear(c, FLN_PLANE_PRESENT, &won);
	fln_chunk_clear(c, FLN_PLANE_POISONED, &won);
	fln_chunk_clear(c, FLN_PLANE_CLAIMED, &won);
}

void fln_region_give_up(struct fln_chunk *c, const struct fln_mask *pages, bool zero)
{
	struct fln_mask won = fln_chunk_set(c, FLN_PLANE_CLAIMED, pages);
	struct fln_mask poisoned = fln_chunk_load(c, FLN_PLANE_POISONED);

	poisoned = fln_mask_and(&poisoned, &won);
	if (zero && !fln_mask_empty(&poisoned))
		(void)fln_chunk_set(c, FLN_PLANE_DISCARDED, &poisoned);
	fln_chunk_clear(c, FLN_PLANE_PRESENT, &won);
	fln_chunk_clear(c, FLN_PLANE_CLAIMED, &won);
}

bool fln_region_collapse(struct fln_blockmap *map, uint64_t block, struct fln_chunk *c)
{
	struct fln_mask all = fln_mask_range(0, FLN_BLOCK_PAGES);
	struct fln_mask valid = fln_blockmap_valid(map, block);
	struct fln_mask present = fln_chunk_load(c, FLN_PLANE_PRESENT);
	struct fln_mask discarded = fln_chunk_load(c, FLN_PLANE_DISCARDED);
	struct fln_mask rest = fln_mask_andnot(&valid, &present), won;
	uint32_t uniform = 1u << FLN_PLANE_PRESENT;

	fln_rcu_assert_reading();
	if (!fln_mask_empty(&rest))
		return false;
	/* Which pages are DISCARDED must not be forgotten: without a chunk it is all or none. */
	discarded = fln_mask_and(&discarded, &valid);
	if (!fln_mask_empty(&discarded)) {
		if (fln_mask_count(&discarded) != fln_mask_count(&valid))
			return false;
		uniform |= 1u << FLN_PLANE_DISCARDED;
	}
	/*
	 * Own every page, so that no thread changes the chunk after it has left its slot: a late
	 * claimer finds all pages claimed, and looks the block up again.
	 */
	won = fln_chunk_set(c, FLN_PLANE_CLAIMED, &all);
	present = fln_chunk_load(c, FLN_PLANE_PRESENT);
	rest = fln_mask_andnot(&valid, &present);
	if (fln_mask_count(&won) == FLN_BLOCK_PAGES && fln_mask_empty(&rest) &&
	    fln_blockmap_collapse(map, block, c, uniform))
		return true;
	fln_chunk_clear(c, FLN_PLANE_CLAIMED, &won);
	return false;
}

static enum fln_region_hold hold_chunk(struct fln_blockmap *map, uint64_t block,
				       struct fln_chunk *c)
{
	struct fln_mask all = fln_mask_range(0, FLN_BLOCK_PAGES), poisoned;
	struct fln_mask valid = fln_blockmap_valid(map, block);
	struct fln_mask won = fln_chunk_set(c, FLN_PLANE_CLAIMED, &all); /* I3 */
	enum fln_region_hold result = FLN_HOLD_OK;

	/* After claiming: from here on no thread poisons a page that it has claimed. */
	poisoned = fln_chunk_load(c, FLN_PLANE_POISONED);
	poisoned = fln_mask_and(&poisoned, &valid);
	if (!fln_mask_empty(&poisoned) && !fln_planted(FLN_BUG_RELEASED_POISONED))
		result = FLN_HOLD_POISONED;
	else if (fln_mask_count(&won) < FLN_BLOCK_PAGES)
		result = FLN_HOLD_BUSY;
	if (result != FLN_HOLD_OK)
		fln_chunk_clear(c, FLN_PLANE_CLAIMED, &won);
	return result;
}

enum fln_region_hold fln_region_hold(struct fln_blockmap *map, uint64_t block)
{
	uint32_t claimed = 1u << FLN_PLANE_CLAIMED;
	struct fln_chunk *c;
	int uniform;

	fln_rcu_assert_reading();
	for (;;) {
		uniform = fln_blockmap_uniform(map, block);
		if (uniform >= 0) {
			FLN_ASSERT(!((uint32_t)uniform & (claimed | FLN_MAP_CLOSED)));
			if (fln_blockmap_swap_uniform(map, block, (uint32_t)uniform,
						      (uint32_t)uniform | claimed))
				return FLN_HOLD_OK;
			continue;
		}
		c = fln_blockmap_peek(map, block);
		if (c)
			return hold_chunk(map, block, c);
	}
}

void fln_region_unhold(struct fln_blockmap *map, uint64_t block)
{
	uint32_t claimed = 1u << FLN_PLANE_CLAIMED;
	struct fln_mask all = fln_mask_range(0, FLN_BLOCK_PAGES);
	int uniform = fln_blockmap_uniform(map, block);

	fln_rcu_assert_reading();
	/* Meanwhile a thread may have made a chunk of the uniform state: all its pages are claimed. */
	if (uniform >= 0 &&
	    fln_blockmap_swap_uniform(map, block, (uint32_t)uniform, (uint32_t)uniform & ~claimed))
		return;
	fln_chunk_clear(fln_blockmap_peek(map, block), FLN_PLANE_CLAIMED, &all);
}

void fln_region_set_released(struct fln_blockmap *map, uint64_t block)
{
	int uniform = fln_blockmap_uniform(map, block);
	bool done = false;

	fln_rcu_assert_reading();
	if (uniform >= 0)
		done = fln_blockmap_swap_uniform(map, block, (uint32_t)uniform,
						 FLN_REGION_RELEASED);
	if (!done)
		done = fln_blockmap_collapse(map, block, fln_blockmap_peek(map, block),
					     FLN_REGION_RELEASED);
	FLN_ASSERT(done); /* its pages are claimed: nothing else moves it */
}
