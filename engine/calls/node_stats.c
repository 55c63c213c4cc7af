/* SPDX-License-Identifier: MIT */
/*
 * Counters of each NUMA node: of the guests that exist, and of those that are gone.
 *
 * Tested by integration.numa.
 */
#include "engine/calls/node_stats.h"

#include "base/cancel.h"
#include "base/error.h"
#include "base/fork.h"
#include "base/lock.h"
#include "engine/owners.h"
#include "engine/state/engine.h"
#include "engine/state/guest.h"
#include "engine/state/worker.h"
#include "numa/plan.h"

#include <errno.h>
#include <faultlane/stats.h>
#include <stdatomic.h>
#include <string.h>

static void add_shard(struct fln_node_counts *into, const struct fln_shard *shard)
{
	const struct fln_shard_counters *c = &shard->count;

	into->faults += atomic_load_explicit(&c->faults, memory_order_relaxed);
	into->remote += atomic_load_explicit(&c->remote, memory_order_relaxed);
	into->pages_installed += atomic_load_explicit(&c->pages_installed, memory_order_relaxed);
}

/* Add the counters of a guest's shards on a node; returns how many shards it has there. */
static uint32_t add_guest(struct fln_node_counts *into, const struct fln_guest *guest,
			  uint32_t node)
{
	const struct fln_shard *in_context = fln_context_shards(guest);
	uint32_t nr = 0;

	for (uint32_t i = 0; i < guest->nr_shards; i++) {
		if (fln_guest_worker(guest, i)->opts.node_index != node)
			continue;
		nr++;
		add_shard(into, &guest->shards[i]);
		if (in_context)
			add_shard(into, &in_context[i]);
	}
	return nr;
}

void fln_nodes_depart(struct fln_engine *engine, const struct fln_guest *guest)
{
	for (uint32_t i = 0; i < engine->plan->nr_nodes; i++)
		(void)add_guest(&engine->departed[i], guest, i);
}

int fln_engine_node_stats(struct fln_engine *engine, uint32_t node, struct fln_node_stats *out)
{
	FLN_UNCANCELLABLE;
	struct fln_node_stats full = FLN_NODE_STATS_INIT;
	struct fln_node_counts counts;
	int rc = FLN_CALL_REFUSED(engine, out);

	if (rc)
		return rc;
	if (node >= engine->plan->nr_nodes)
		return fln_fail(ENOENT, "node is %u, and this machine has %u nodes; use 0 to %u",
				node, engine->plan->nr_nodes, engine->plan->nr_nodes - 1);
	full.os_index = engine->plan->nodes[node].os_index;
	full.nr_workers = engine->plan->nodes[node].nr_workers;
	fln_lock(&engine->lock);
	counts = engine->departed[node];
	for (struct fln_guest *g = engine->guests; g; g = g->next) {
		uint32_t nr = add_guest(&counts, g, node);

		fln_lock(&g->lock);
		full.nr_shards += g->running ? nr : 0;
		fln_unlock(&g->lock);
	}
	fln_unlock(&engine->lock);
	full.faults = counts.faults;
	full.remote = counts.remote;
	full.pages_installed = counts.pages_installed;
	return fln_out_copy(out, &full, sizeof(full), "fln_node_stats");
}
