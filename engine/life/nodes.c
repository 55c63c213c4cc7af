/* SPDX-License-Identifier: MIT */
/*
 * NUMA nodes: carries out the engine's plan (numa/plan.h).
 *
 * Each node has a contiguous group of a guest's shards, served by workers of that node.  A region
 * with a node has its stripes in that node's group, and its part of the image and the chunks of
 * its map are bound there.
 */
#include "engine/life/nodes.h"

#include "base/alloc.h"
#include "base/blockmap.h"
#include "base/error.h"
#include "base/log.h"
#include "base/page.h"
#include "engine/state/engine.h"
#include "engine/state/guest.h"
#include "numa/cpuset.h"
#include "numa/placement.h"
#include "numa/plan.h"
#include "numa/topology.h"
#include "sources/image.h"

#include <errno.h>
#include <faultlane/base.h>
#include <faultlane/engine.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

static size_t departed_bytes(const struct fln_engine *engine)
{
	return engine->plan->nr_nodes * sizeof(*engine->departed);
}

/* Logs once per engine, not per worker. */
static void log_shared_cpus(const struct fln_engine *engine)
{
	const struct fln_plan *plan = engine->plan;
	uint32_t nr = 0, last = 0;

	for (uint32_t i = 0; i < plan->nr_workers; i++) {
		if (!plan->workers[i].shares_vcpu)
			continue;
		last = plan->workers[i].pu.os_index;
		nr++;
	}
	if (nr > 0 && fln_engine_pins(engine))
		fln_log(&engine->log, FLN_LOG_WARNING,
			"%u workers share a processor with vCPUs (processor %u, for example), "
			"because their nodes have no others; leave one processor of each node out "
			"of vcpu_cpus",
			nr, last);
}

int fln_nodes_init(struct fln_engine *engine)
{
	const struct fln_engine_opts *o = &engine->opts;
	struct fln_plan_input input = {
		.worker_cpus = o->worker_cpus,
		.vcpu_cpus = o->vcpu_cpus,
		.nr_workers = o->nr_workers,
	};
	int rc = fln_plan_create(&engine->plan, &engine->alloc, engine->topology, &input);

	if (rc)
		return rc;
	engine->departed = fln_zalloc(&engine->alloc, departed_bytes(engine), FLN_NODE_ANY);
	if (!engine->departed) {
		fln_plan_destroy(engine->plan);
		return fln_fail(ENOMEM, "engine: no memory for the counters of nodes");
	}
	/* The strings are the caller's, and may be freed when fln_engine_create() has returned. */
	engine->opts.worker_cpus = NULL;
	engine->opts.vcpu_cpus = NULL;
	engine->opts.nr_workers = engine->plan->nr_workers;
	log_shared_cpus(engine);
	return 0;
}

void fln_nodes_deinit(struct fln_engine *engine)
{
	fln_free(&engine->alloc, engine->departed, departed_bytes(engine), FLN_NODE_ANY);
	fln_plan_destroy(engine->plan);
}

bool fln_engine_pins(const struct fln_engine *engine)
{
	return !(engine->opts.flags & FLN_ENGINE_F_NO_PIN) &&
	       fln_topology_is_live(engine->topology);
}

int fln_nodes_find(const struct fln_engine *engine, uint32_t node_plus_one, uint32_t *out)
{
	struct fln_cpuset nodes = { .w = { 0 } };
	char list[96];

	*out = FLN_NODE_ANY;
	if (node_plus_one == 0)
		return 0;
	*out = fln_topology_find_node(engine->topology, node_plus_one - 1);
	if (*out != FLN_NODE_ANY)
		return 0;
	for (uint32_t i = 0; i < engine->plan->nr_nodes; i++)
		fln_cpuset_add(&nodes, engine->plan->nodes[i].os_index);
	return fln_fail(
		EINVAL,
		"region: node is %u, and this machine has no node %u; its nodes are %s: use "
		"one of these numbers plus one, or 0",
		node_plus_one, node_plus_one - 1, fln_cpuset_format(&nodes, list, sizeof(list)));
}

static int bind_map(const struct fln_chunk_pool *pool, uint32_t node_os_index)
{
	uint64_t len_bytes = (uint64_t)pool->nr_chunks * sizeof(struct fln_chunk);

	return fln_bind_memory(pool->chunks, fln_align_up(len_bytes, FLN_PAGE_BYTES),
			       node_os_index);
}

void fln_region_bind(const struct fln_region *r)
{
	struct fln_engine *engine = r->guest->engine;
	uint64_t offset_bytes = fln_pages_to_bytes(r->image_page);
	uint32_t os_index;
	int rc = 0;

	if (r->node_index == FLN_NODE_ANY || !fln_topology_is_live(engine->topology))
		return;
	os_index = fln_topology_node_os_index(engine->topology, r->node_index);
	/* Through the alias: mbind() of a private mapping binds the image at wrong offsets. */
	if (!r->foreign)
		rc = fln_bind_memory((char *)r->image->alias + offset_bytes, r->len_bytes,
				     os_index);
	if (rc == 0)
		rc = bind_map(&r->map.pool, os_index);
	if (rc && !atomic_exchange(&engine->said_unbound, true))
		fln_log(&engine->log, FLN_LOG_WARNING,
			"guest %s: cannot bind a region's memory to node %u, so it may lie on any "
			"node: %s",
			r->guest->name, os_index, fln_last_error());
}
