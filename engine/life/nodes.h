/* SPDX-License-Identifier: MIT */
/*
 * NUMA nodes: carries out the engine's plan.  Caller's thread; the functions block only for
 * system calls.
 */
#ifndef FLN_ENGINE_LIFE_NODES_H
#define FLN_ENGINE_LIFE_NODES_H

#include <stdbool.h>
#include <stdint.h>

struct fln_engine;
struct fln_region;

/* Make the plan from the topology and the engine's options, and set opts.nr_workers from it. */
int fln_nodes_init(struct fln_engine *engine);
void fln_nodes_deinit(struct fln_engine *engine);

/* Are workers pinned?  Only if the options allow it and the topology is this machine's. */
bool fln_engine_pins(const struct fln_engine *engine);

/*
 * Translate an embedder's node (the kernel's number plus one; 0: any) into its index in the topology,
 * or FLN_NODE_ANY.  Return: 0; -EINVAL if there is no such node.
 */
int fln_nodes_find(const struct fln_engine *engine, uint32_t node_plus_one, uint32_t *out);

/* Bind the region's part of the image, and its map, to the region's node, if it has one. */
void fln_region_bind(const struct fln_region *r);

#endif
