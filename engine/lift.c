/* SPDX-License-Identifier: MIT */
/*
 * Which poison is to be lifted: that of pages that were discarded, so that zeros are due.
 *
 * The maps are the list of what remains to be done: a page is due while it is POISONED in its
 * region's map, and DISCARDED there or ZERO in the image.
 *
 * Tested by unit.serve_fill, unit.populate, unit.serve_random.
 */
#include "engine/lift.h"

#include "base/plant.h"
#include "engine/region_map.h"
#include "engine/state/guest.h"
#include "sources/image.h"
#include "sources/image_discard.h"
#include "sources/image_poison.h"
#include "sources/image_ready.h"

bool fln_lift_serves(const struct fln_region *r)
{
	return !r->foreign && r->page_bytes == FLN_PAGE_BYTES;
}

struct fln_mask fln_lift_due(const struct fln_region *r, uint64_t block,
			     const struct fln_mask *poisoned)
{
	uint32_t lead = block == 0 ? r->map.lead_pages : 0;
	struct fln_mask filled, zero, discarded, none = { { 0 } };

	if (!fln_lift_serves(r) || fln_mask_empty(poisoned) || fln_planted(FLN_BUG_POISON_STAYS))
		return none;
	fln_image_ready(r->image, fln_region_image_page(r, block * FLN_BLOCK_PAGES + lead),
			FLN_BLOCK_PAGES - lead, &filled, &zero);
	zero = fln_mask_up(&zero, lead);
	discarded = fln_blockmap_load(&r->map, FLN_PLANE_DISCARDED, block);
	zero = fln_mask_or(&zero, &discarded);
	return fln_mask_and(&zero, poisoned);
}

/*
 * The note comes first: from then on the image keeps ZERO pages of the block apart from FILLED
 * ones, also when the block is wholly one or the other.
 */
bool fln_lift_too_late(const struct fln_region *r, uint64_t block, uint32_t page)
{
	uint64_t image_page = fln_region_image_page(r, block * FLN_BLOCK_PAGES + page);
	struct fln_mask filled, zero;

	if (!fln_lift_serves(r))
		return false;
	fln_image_note_poison(r->image, image_page);
	fln_image_ready(r->image, image_page, 1, &filled, &zero);
	return fln_mask_test(&filled, 0) || fln_mask_test(&zero, 0);
}

void fln_lift_note(const struct fln_region *r, uint64_t block, const struct fln_mask *poisoned)
{
	struct fln_mask due;
	uint64_t lo, hi;

	if (!fln_lift_serves(r))
		return;
	lo = fln_mask_next_set(poisoned, 0);
	for (hi = lo; hi < FLN_BLOCK_PAGES; hi = fln_mask_next_set(poisoned, (uint32_t)hi + 1))
		fln_image_note_poison(r->image,
				      fln_region_image_page(r, block * FLN_BLOCK_PAGES + hi));
	/* Pages discarded between the look at their state and the note: that discard saw no poison. */
	due = fln_lift_due(r, block, poisoned);
	if (!fln_mask_empty(&due))
		fln_image_lift(r->image, fln_region_image_page(r, block * FLN_BLOCK_PAGES + lo),
			       FLN_BLOCK_PAGES - lo);
}

void fln_lift_done(struct fln_chunk *c, const struct fln_mask *present)
{
	struct fln_mask discarded = fln_chunk_load(c, FLN_PLANE_DISCARDED);

	discarded = fln_mask_and(&discarded, present);
	if (!fln_mask_empty(&discarded))
		fln_chunk_clear(c, FLN_PLANE_DISCARDED, &discarded);
}
