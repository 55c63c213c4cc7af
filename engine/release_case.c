/* SPDX-License-Identifier: MIT */
/*
 * What is known of a block when its release is decided on.
 *
 * Tested by unit.release, integration.block_policy.
 */
#include "engine/release_case.h"

#include "base/blockmap.h"
#include "base/page.h"
#include "base/rcu.h"
#include "engine/region_map.h"
#include "engine/state/guest.h"
#include "sources/folio.h"
#include "sources/image.h"
#include "sources/source.h"

#include <stdatomic.h>

static uint64_t block_addr(const struct fln_region *r, uint64_t block)
{
	return fln_region_addr_of(r, block * FLN_BLOCK_PAGES);
}

/*
 * The image's block that the region's is; UINT64_MAX: none, because it lies at an edge of the
 * region, or in two of the image's.
 */
static uint64_t image_block(const struct fln_region *r, uint64_t block)
{
	uint64_t page = block * FLN_BLOCK_PAGES;

	if (page < r->map.lead_pages)
		return UINT64_MAX;
	page = fln_region_image_page(r, page);
	return page % FLN_BLOCK_PAGES == 0 ? page / FLN_BLOCK_PAGES : UINT64_MAX;
}

struct fln_block_case fln_release_case(const struct fln_region *r, uint64_t block)
{
	const struct fln_chunk *chunk = fln_blockmap_peek(&r->map, block);
	const struct fln_folios *folios = &r->image->folios;
	int uniform = fln_blockmap_uniform(&r->map, block);
	uint64_t of_image = r->foreign ? UINT64_MAX : image_block(r, block);
	struct fln_block_case c = {
		.option = r->release,
		.large = fln_folio_is_large(folios, of_image),
		.nr_filled = fln_folio_nr_filled(folios, of_image),
		.has_spare = fln_folio_has_spare(folios, of_image),
		.may_be_large = fln_folio_may_be_large(folios, of_image),
		.mapped = uniform >= 0 && (uniform >> FLN_PLANE_PRESENT) & 1,
		.control = fln_block_is_control(block_addr(r, block)),
		.seen = fln_turnout_of(&r->guest->turnout),
	};

	fln_rcu_assert_reading();
	if (chunk)
		c.nr_faults = atomic_load_explicit(&chunk->nr_faults, memory_order_relaxed);
	if (r->image->source)
		c.source_ns =
			atomic_load_explicit(&r->image->source->page_ns, memory_order_relaxed);
	return c;
}

bool fln_release_wants_rest(const struct fln_region *r, uint64_t block)
{
	struct fln_block_case c = fln_release_case(r, block);

	return fln_policy_fills_rest(&c);
}

void fln_release_tell_image(const struct fln_region *r)
{
	if (r->release == FLN_RELEASE_AUTO && !r->foreign && r->image->source)
		fln_folio_set_trimmed(&r->image->folios,
				      fln_turnout_of(&r->guest->turnout) != FLN_SEEN_SPARSE);
}

static uint64_t faults_of(const struct fln_shard *shard)
{
	return atomic_load_explicit(&shard->count.faults, memory_order_relaxed) +
	       atomic_load_explicit(&shard->count.in_context, memory_order_relaxed);
}

bool fln_release_is_quiet(const struct fln_shard *shard, const struct fln_region *r, uint64_t block)
{
	struct fln_chunk *chunk = fln_blockmap_peek(&r->map, block);
	uint16_t nr;

	fln_rcu_assert_reading();
	/* Not touched: as quiet as its shard, once the guest has begun. */
	if (!chunk)
		return faults_of(shard) == shard->release_faults &&
		       atomic_load_explicit(&shard->guest->release.has_begun, memory_order_relaxed);
	nr = atomic_load_explicit(&chunk->nr_faults, memory_order_relaxed);
	return atomic_exchange_explicit(&chunk->nr_faults_seen, nr, memory_order_relaxed) == nr;
}

void fln_release_note_faults(struct fln_shard *shard)
{
	shard->release_faults = faults_of(shard);
	/* A guest that does not begin within two looks is not about to. */
	if (shard->release_faults > 0 || shard->release_looks >= 2)
		atomic_store_explicit(&shard->guest->release.has_begun, true, memory_order_relaxed);
	else
		shard->release_looks++;
}

void fln_release_note_turnout(const struct fln_region *r, uint64_t block,
			      const struct fln_block_case *c)
{
	struct fln_mask present;

	if (!c->control || !c->quiet || c->nr_faults == 0)
		return;
	present = fln_blockmap_load(&r->map, FLN_PLANE_PRESENT, block);
	fln_turnout_note(&r->guest->turnout, &present);
}
