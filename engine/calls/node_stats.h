/* SPDX-License-Identifier: MIT */
/*
 * Counters of each NUMA node.
 */
#ifndef FLN_ENGINE_CALLS_NODE_STATS_H
#define FLN_ENGINE_CALLS_NODE_STATS_H

#include "base/lock.h"
#include "engine/state/engine.h"

#include <stdbool.h>
#include <stdint.h>

struct fln_guest;

/* Keep the counters of a guest that is being destroyed. */
void fln_nodes_depart(struct fln_engine *engine, const struct fln_guest *guest)
	FLN_REQUIRES(engine->lock);

#endif
