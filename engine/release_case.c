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

/* A block that this guest has not begun may be another one's, which is filling it now. */
static bool may_trim(const struct fln_region *r, const struct fln_chunk *chunk)
{
	return chunk || atomic_load_explicit(&r->image->nr_users, memory_order_relaxed) == 1;
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
		/* Fillers trim and fill, for images that have a source. */
		.has_spare = r->image->source && may_trim(r, chunk) &&
			     fln_folio_has_spare(folios, of_image),
		.may_be_large = r->image->source && fln_folio_may_be_large(folios, of_image),
		.mapped = uniform >= 0 && (uniform >> FLN_PLANE_PRESENT) & 1,
		.has_entries = uniform != 0,
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

bool fln_release_is_possible(const struct fln_region *r)
{
	/*
	 * Discards of anonymous memory read zero, as the kernel has it; those of a private mapping
	 * read the image.  Shared memory has the page cache, which is the same for both meanings
	 * once every page is filled.
	 */
	return r->foreign ? fln_region_keeps_discards(r) : !fln_region_keeps_discards(r);
}

bool fln_release_wants_rest(const struct fln_region *r, uint64_t block)
{
	struct fln_block_case c = fln_release_case(r, block);

	return fln_policy_fills_rest(&c);
}

void fln_release_tell_image(const struct fln_region *r)
{
	uint64_t shift = r->addr - fln_pages_to_bytes(r->image_page);

	/* Sweeps do not look at other regions, nor at blocks that lie in two of the image's. */
	if (r->release == FLN_RELEASE_AUTO && !r->foreign && r->image->source &&
	    fln_release_is_possible(r) && fln_is_aligned(shift, FLN_BLOCK_BYTES))
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
	/* A guest that does not begin between two looks is not about to. */
	if (shard->release_faults > 0 || shard->release_looks >= 1)
		atomic_store_explicit(&shard->guest->release.has_begun, true, memory_order_relaxed);
	else
		shard->release_looks++;
}

void fln_release_note_turnout(const struct fln_region *r, uint64_t block,
			      const struct fln_block_case *c)
{
	struct fln_chunk *chunk = fln_blockmap_peek(&r->map, block);
	struct fln_mask present;

	if (!c->control || !c->quiet || c->nr_faults == 0 || !chunk)
		return;
	present = fln_chunk_load(chunk, FLN_PLANE_PRESENT);
	fln_turnout_note(&r->guest->turnout, &present);
	/* It votes once, even if it cannot be released yet. */
	atomic_store_explicit(&chunk->nr_faults, 0, memory_order_relaxed);
	atomic_store_explicit(&chunk->nr_faults_seen, 0, memory_order_relaxed);
}

void fln_release_note_mapped(const struct fln_region *r, uint64_t block, uint32_t nr_faults)
{
	if (r->release == FLN_RELEASE_AUTO && !r->foreign &&
	    fln_block_is_control(block_addr(r, block)))
		fln_turnout_note_mapped(&r->guest->turnout, nr_faults);
}
