/* SPDX-License-Identifier: MIT */
/*
 * Nodes: the engine's plan acted upon, and what has happened on each node.
 */
#ifndef FLN_ENGINE_LIFE_NODES_H
#define FLN_ENGINE_LIFE_NODES_H

#include <stdbool.h>
#include <stdint.h>

struct fln_engine;
struct fln_region;

/* Plan the machine with the engine's options, fill in nr_workers. */
int fln_nodes_init(struct fln_engine *engine);
void fln_nodes_deinit(struct fln_engine *engine);

/* Whether workers are pinned: wanted, and the topology is this machine's. */
bool fln_engine_pins(const struct fln_engine *engine);

/*
 * The index of a node that an embedder gave as the kernel's number plus one.
 * Return: 0, FLN_NODE_ANY for 0; -EINVAL with the nodes that there are.
 */
int fln_nodes_find(const struct fln_engine *engine, uint32_t node_plus_one, uint32_t *out);

/* Have its part of the image, and its map, lie on its node, if it has one. */
void fln_region_bind(const struct fln_region *r);

#endif
