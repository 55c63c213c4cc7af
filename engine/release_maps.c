/* SPDX-License-Identifier: MIT */
/*
 * The mappings that releases add to a process.
 *
 * Tested by unit.release, integration.release, integration.release_edges.
 */
#include "engine/release_maps.h"

#include "base/blockmap.h"
#include "base/clock.h"
#include "base/lock.h"
#include "base/page.h"
#include "engine/budget.h"
#include "engine/mapping.h"
#include "engine/owners.h"
#include "engine/region_map.h"
#include "engine/state/guest.h"
#include "sharding/stripes.h"

#include <stdbool.h>

#define NO_SHARD UINT32_MAX
/*
 * Mappings that releases may add to a foreign process, whose limit is not known here: few of the
 * 65 530 that it has by default.
 */
#define FOREIGN_MAPS 1024
#define RECOUNT_NS FLN_NS_PER_S /* 65 530 lines of /proc/self/maps take some 20 ms */

uint64_t fln_block_addr(const struct fln_region *r, uint64_t block)
{
	uint64_t addr = fln_region_addr_of(r, block * FLN_BLOCK_PAGES);
	uint64_t end = r->addr + r->len_bytes;

	addr = addr > r->addr ? addr : r->addr;
	return addr < end ? addr : end;
}

/* The shard whose mapping a block is in; NO_SHARD: it is released. */
static uint32_t shard_of(const struct fln_region *r, uint64_t block)
{
	return fln_region_is_released(&r->map, block)
		       ? NO_SHARD
		       : fln_stripe_shard(&r->plan, fln_block_addr(r, block));
}

/* A boundary between the run and its neighbour: is there one afterwards, was there one before? */
static int64_t growth_beside(const struct fln_region *r, uint64_t neighbour, uint32_t own)
{
	uint32_t beside = shard_of(r, neighbour);

	return (beside != NO_SHARD || r->is_private) - (beside != own);
}

int64_t fln_release_growth(const struct fln_region *r, uint64_t block, uint64_t end)
{
	uint32_t own = fln_stripe_shard(&r->plan, fln_block_addr(r, block));
	int64_t nr = 0;

	if (block > 0)
		nr += growth_beside(r, block - 1, own);
	if (end < r->map.nr_blocks)
		nr += growth_beside(r, end, own);
	return nr;
}

static void change(struct fln_region *r, int64_t nr) FLN_REQUIRES(r->guest->release.lock)
{
	r->nr_release_maps += nr;
	if (r->foreign)
		r->guest->release.nr_maps += nr;
}

static void recount(struct fln_region *r) FLN_REQUIRES(r->guest->release.lock)
{
	int64_t counted = (int64_t)r->plan.nr_stripes + r->nr_release_maps;
	int64_t nr = (int64_t)fln_mapping_count(r);

	/* 0: unknown.  If there are more, others have cut them, and not on this budget. */
	if (nr == 0 || nr >= counted)
		return;
	fln_release_note_maps(r, nr - counted);
	r->nr_failed_maps = 0;
}

static void recount_now_and_then(struct fln_region *r) FLN_REQUIRES(r->guest->release.lock)
{
	uint64_t now = fln_now_ns();

	if (r->counted_ns && now - r->counted_ns < RECOUNT_NS)
		return;
	recount(r);
	r->counted_ns = fln_now_ns();
}

bool fln_release_take_maps(struct fln_region *r, int64_t nr)
{
	struct fln_engine *engine = r->guest->engine;

	if (nr <= 0) {
		fln_release_note_maps(r, nr);
		return true;
	}
	if (r->foreign && r->guest->release.nr_maps + nr > FOREIGN_MAPS)
		return false;
	/* Half of what is left stays for regions to come. */
	if (!r->foreign && (uint64_t)nr > fln_engine_stripes_left(engine) / 2 && r->is_private)
		recount_now_and_then(r);
	if (!r->foreign && ((uint64_t)nr > fln_engine_stripes_left(engine) / 2 ||
			    fln_engine_take_stripes(engine, (uint64_t)nr) != 0))
		return false;
	change(r, nr);
	return true;
}

void fln_release_note_maps(struct fln_region *r, int64_t nr)
{
	if (!r->foreign && nr > 0)
		fln_engine_note_stripes(r->guest->engine, (uint64_t)nr);
	if (!r->foreign && nr < 0)
		fln_engine_give_back_stripes(r->guest->engine, (uint64_t)-nr);
	change(r, nr);
}

void fln_release_keep_maps(struct fln_region *r, int64_t nr)
{
	int64_t more = nr > r->nr_failed_maps ? nr - r->nr_failed_maps : 0;

	r->nr_failed_maps += more;
	fln_release_note_maps(r, more - nr);
}

void fln_release_give_back_kept(struct fln_region *r)
{
	fln_release_note_maps(r, -r->nr_failed_maps);
	r->nr_failed_maps = 0;
}

void fln_release_recount(struct fln_region *r)
{
	if (!r->is_private)
		return;
	fln_lock(&r->guest->release.lock);
	recount(r);
	fln_unlock(&r->guest->release.lock);
}

void fln_release_end_maps(struct fln_region *r)
{
	fln_lock(&r->guest->release.lock);
	fln_release_note_maps(r, -r->nr_release_maps);
	fln_unlock(&r->guest->release.lock);
	if (!r->foreign)
		fln_engine_give_back_stripes(r->guest->engine, r->plan.nr_stripes);
}
