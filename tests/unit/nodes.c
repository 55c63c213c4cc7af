/* SPDX-License-Identifier: MIT */
/* Nodes of a machine that is described: the plan acted upon, nodes by the kernel's numbers. */
#include "engine/life/nodes.h"

#include "base/alloc.h"
#include "engine/state/engine.h"
#include "engine/state/guest.h"
#include "numa/plan.h"
#include "numa/topology.h"

#include "tests/support/blocks.h"
#include "tests/support/cm.h"

#include <errno.h>
#include <faultlane/base.h>
#include <faultlane/engine.h>
#include <stdbool.h>
#include <string.h>

#define MACHINE "node:2 core:4 pu:1"

static struct fln_engine engine;
static struct blocks blocks;

static void begin(const char *machine)
{
	struct fln_allocator a = blocks_allocator(&blocks);

	memset(&engine, 0, sizeof(engine));
	blocks.nr_left = UINT32_MAX;
	assert_int_equal(fln_alloc_init(&engine.alloc, &a), 0);
	assert_int_equal(fln_topology_load(&engine.topology, NULL, machine), 0);
}

static void end(void)
{
	fln_topology_destroy(engine.topology);
	assert_int_equal(blocks.nr, 0);
}

static void the_plan_is_the_engines(void **state)
{
	(void)state;
	begin(MACHINE);
	engine.opts.worker_cpus = "0-1,4-5";
	engine.opts.vcpu_cpus = "2-3,6-7";
	engine.opts.nr_workers = 4;
	assert_int_equal(fln_nodes_init(&engine), 0);
	assert_int_equal(engine.opts.nr_workers, 4);
	assert_int_equal(engine.plan->nr_nodes, 2);
	assert_int_equal(engine.plan->nodes[0].nr_workers, 2);
	assert_int_equal(engine.plan->nodes[1].nr_workers, 2);
	/* The caller's strings may be gone. */
	assert_null(engine.opts.worker_cpus);
	assert_null(engine.opts.vcpu_cpus);
	for (uint32_t i = 0; i < 2; i++)
		assert_int_equal(engine.departed[i].faults, 0);
	fln_nodes_deinit(&engine);
	end();
}

static void as_many_workers_as_the_plan_says(void **state)
{
	(void)state;
	begin(MACHINE);
	assert_int_equal(fln_nodes_init(&engine), 0);
	assert_int_equal(engine.opts.nr_workers, engine.plan->nr_workers);
	assert_true(engine.opts.nr_workers >= 2); /* one for each node */
	fln_nodes_deinit(&engine);
	end();
}

static void what_cannot_be_planned(void **state)
{
	(void)state;
	begin(MACHINE);
	engine.opts.worker_cpus = "5-x";
	assert_int_equal(fln_nodes_init(&engine), -EINVAL);
	assert_non_null(strstr(fln_last_error(), "worker_cpus"));
	engine.opts.worker_cpus = NULL;
	for (blocks.nr_left = 0; blocks.nr_left < 2; blocks.nr_left++) {
		uint32_t nr = blocks.nr_left;

		assert_int_equal(fln_nodes_init(&engine), -ENOMEM);
		assert_int_equal(blocks.nr, 0);
		blocks.nr_left = nr;
	}
	end();
}

/* A description has nowhere to pin a worker to. */
static void workers_are_pinned_on_this_machine_only(void **state)
{
	(void)state;
	begin(MACHINE);
	assert_false(fln_engine_pins(&engine));
	end();
	begin(NULL);
	assert_int_equal(fln_engine_pins(&engine), fln_topology_is_live(engine.topology));
	engine.opts.flags = FLN_ENGINE_F_NO_PIN;
	assert_false(fln_engine_pins(&engine));
	end();
}

static void nodes_by_the_kernels_numbers(void **state)
{
	uint32_t node = 77;

	(void)state;
	begin(MACHINE);
	assert_int_equal(fln_nodes_init(&engine), 0);
	assert_int_equal(fln_nodes_find(&engine, 0, &node), 0);
	assert_int_equal(node, FLN_NODE_ANY);
	for (uint32_t i = 0; i < 2; i++) {
		assert_int_equal(fln_nodes_find(&engine, i + 1, &node), 0);
		assert_int_equal(fln_topology_node_os_index(engine.topology, node), i);
	}
	assert_int_equal(fln_nodes_find(&engine, 3, &node), -EINVAL);
	assert_non_null(strstr(fln_last_error(), "node 2"));
	assert_non_null(strstr(fln_last_error(), "0-1")); /* those that there are */
	fln_nodes_deinit(&engine);
	end();
}

/* Nothing of it is touched: there is no such memory. */
static void memory_of_a_described_machine_is_not_bound(void **state)
{
	static struct fln_guest guest;
	static struct fln_region region;

	(void)state;
	begin(MACHINE);
	guest.engine = &engine;
	region.guest = &guest;
	region.node_index = FLN_NODE_ANY;
	fln_region_bind(&region);
	region.node_index = 1;
	fln_region_bind(&region);
	assert_false(engine.said_unbound);
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_plan_is_the_engines),
		cmocka_unit_test(as_many_workers_as_the_plan_says),
		cmocka_unit_test(what_cannot_be_planned),
		cmocka_unit_test(workers_are_pinned_on_this_machine_only),
		cmocka_unit_test(nodes_by_the_kernels_numbers),
		cmocka_unit_test(memory_of_a_described_machine_is_not_bound),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
