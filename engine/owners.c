/* SPDX-License-Identifier: MIT */
/*
 * Which shard and which worker serve an address of a region, by the engine's plan.
 */
#include "engine/owners.h"

#include "engine/state/engine.h"
#include "engine/state/guest.h"
#include "engine/state/worker.h"
#include "numa/plan.h"
#include "sharding/stripes.h"

#include <faultlane/base.h>

struct fln_shard *fln_region_shard_at(const struct fln_region *r, uint64_t addr)
{
	return fln_region_shard(r, fln_stripe_shard(&r->plan, addr));
}

struct fln_worker *fln_guest_worker(const struct fln_guest *guest, uint32_t shard)
{
	struct fln_engine *engine = guest->engine;

	return &engine->workers[fln_plan_shard_worker(engine->plan, guest->nr_shards,
						      guest->turn_no, shard)];
}

void fln_region_shards(const struct fln_region *r, uint32_t *first, uint32_t *nr)
{
	const struct fln_guest *guest = r->guest;

	*first = 0;
	*nr = guest->nr_shards;
	if (r->node_index != FLN_NODE_ANY)
		(void)fln_plan_node_shards(guest->engine->plan, r->node_index, guest->nr_shards,
					   guest->turn_no, first, nr);
}
