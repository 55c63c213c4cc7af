/* SPDX-License-Identifier: MIT */
/* Which shard and which worker serve a part of a region: by stripes, and on the region's node. */
#include "engine/owners.h"

#include "base/alloc.h"
#include "base/page.h"
#include "engine/state/engine.h"
#include "engine/state/guest.h"
#include "engine/state/worker.h"
#include "numa/plan.h"
#include "numa/topology.h"
#include "sharding/stripes.h"

#include "tests/support/cm.h"

#include <faultlane/base.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#define ADDR UINT64_C(0x700000000000)
#define NR_SHARDS 8u
#define NR_STRIPES 40u

struct fixture {
	struct fln_engine engine;
	struct fln_worker workers[FLN_PLAN_MAX_WORKERS];
	struct fln_guest guest;
	struct fln_shard shards[NR_SHARDS], context_shards[NR_SHARDS];
	struct fln_region region;
};

static struct fixture f;

static int setup(void **state)
{
	struct fln_plan_input input = { .nr_workers = 4 };

	(void)state;
	memset(&f, 0, sizeof(f));
	assert_int_equal(fln_alloc_init(&f.engine.alloc, NULL), 0);
	assert_int_equal(fln_topology_load(&f.engine.topology, NULL, "node:2 core:4 pu:1"), 0);
	assert_int_equal(fln_plan_create(&f.engine.plan, &f.engine.alloc, f.engine.topology,
					 &input),
			 0);
	f.engine.workers = f.workers;
	f.guest.engine = &f.engine;
	f.guest.shards = f.shards;
	f.guest.nr_shards = NR_SHARDS;
	f.region.guest = &f.guest;
	f.region.addr = ADDR;
	f.region.len_bytes = NR_STRIPES * FLN_BLOCK_BYTES;
	f.region.node_index = FLN_NODE_ANY;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	fln_plan_destroy(f.engine.plan);
	fln_topology_destroy(f.engine.topology);
	return 0;
}

/* As a region is made: its stripes go to the shards of its node. */
static void plan_stripes(uint32_t *first, uint32_t *nr)
{
	struct fln_region *r = &f.region;

	fln_region_shards(r, first, nr);
	assert_int_equal(fln_stripe_plan_init(&r->plan, r->addr, r->len_bytes, *nr, 0, NR_STRIPES),
			 0);
	fln_stripe_plan_set_base(&r->plan, *first);
}

/* Of each stripe all addresses have the shard that the stripe is registered with. */
static void check_shards(struct fln_shard *shards, uint32_t first, uint32_t nr)
{
	uint32_t nr_stripes[NR_SHARDS] = { 0 };
	uint64_t addr, len;
	uint32_t shard;

	for (uint64_t i = 0; fln_stripe_get(&f.region.plan, i, &addr, &len, &shard); i++) {
		assert_in_range(shard, first, first + nr - 1);
		assert_ptr_equal(fln_region_shard_at(&f.region, addr), &shards[shard]);
		assert_ptr_equal(fln_region_shard_at(&f.region, addr + len - 1), &shards[shard]);
		nr_stripes[shard]++;
	}
	for (uint32_t i = first; i < first + nr; i++)
		assert_int_equal(nr_stripes[i], NR_STRIPES / nr);
}

static void a_region_of_no_node_has_all_shards(void **state)
{
	uint32_t first, nr;

	(void)state;
	plan_stripes(&first, &nr);
	assert_int_equal(first, 0);
	assert_int_equal(nr, NR_SHARDS);
	check_shards(f.shards, first, nr);
}

static void a_region_has_the_shards_of_its_node(void **state)
{
	bool taken[NR_SHARDS] = { false };

	(void)state;
	for (uint32_t node = 0; node < 2; node++) {
		uint32_t first, nr;

		f.region.node_index = node;
		plan_stripes(&first, &nr);
		assert_int_equal(nr, NR_SHARDS / 2);
		check_shards(f.shards, first, nr);
		for (uint32_t i = first; i < first + nr; i++) {
			assert_false(taken[i]);
			taken[i] = true;
		}
	}
}

static void in_context_it_has_shards_of_its_own(void **state)
{
	uint32_t first, nr;

	(void)state;
	atomic_store(&f.guest.context_shards, f.context_shards);
	f.region.in_context = true;
	plan_stripes(&first, &nr);
	check_shards(f.context_shards, first, nr);
}

/* A shard's worker is one of those of the node whose memory the shard serves. */
static void workers_are_of_the_shards_node(void **state)
{
	(void)state;
	for (uint32_t turn = 0; turn < 3; turn++) {
		f.guest.turn_no = turn;
		for (uint32_t node = 0; node < 2; node++) {
			const struct fln_plan_node *n = &f.engine.plan->nodes[node];
			uint32_t first, nr;

			f.region.node_index = node;
			fln_region_shards(&f.region, &first, &nr);
			for (uint32_t i = first; i < first + nr; i++) {
				uint64_t w = (uint64_t)(fln_guest_worker(&f.guest, i) - f.workers);

				assert_in_range(w, n->first_worker,
						n->first_worker + n->nr_workers - 1);
			}
		}
	}
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_region_of_no_node_has_all_shards),
		TEST(a_region_has_the_shards_of_its_node),
		TEST(in_context_it_has_shards_of_its_own),
		TEST(workers_are_of_the_shards_node),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
