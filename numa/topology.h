/* SPDX-License-Identifier: MIT */
/*
 * The machine as placement sees it: nodes, and the processors on each that may
 * be used.
 */
#ifndef FLN_NUMA_TOPOLOGY_H
#define FLN_NUMA_TOPOLOGY_H

#include "base/alloc.h"

#include <stdbool.h>
#include <stdint.h>

/*
 * Nodes are counted from 0 here (a node index).  The kernel's number of a node
 * or a processor is its OS index; those can have gaps.  A processor (PU) is what
 * the kernel schedules on: one hardware thread of a core.
 */
struct fln_topology;

/**
 * struct fln_pu - A processor that may be used
 * @os_index: the kernel's number
 * @node:     node index
 * @core:     its core; cores, caches and packages are counted from 0 over the machine
 * @cache:    its last-level cache; where none is known, its package
 * @package:  its package
 * @smt_rank: 0: the first processor of its core that may be used
 * @logical:  its place in hwloc's order, in which neighbours are near each other
 * @stray:    1: no node names it, as where cpuset.mems leaves its node out; @node is 0
 *            then, which may be far.  Else 0
 */
struct fln_pu {
	uint32_t os_index;
	uint32_t node;
	uint32_t core;
	uint32_t cache;
	uint32_t package;
	uint32_t smt_rank;
	uint32_t logical;
	uint32_t stray;
};

/**
 * fln_topology_load() - Read the machine, or a description of one
 * @out:       the topology; written only on success
 * @a:         where its memory comes from; NULL: the C library.  Copied.  hwloc's
 *             own memory is the C library's, and is given back before this returns
 * @synthetic: hwloc's synthetic description, such as "node:4 core:4 pu:2"; NULL: this
 *             machine, or what HWLOC_SYNTHETIC, HWLOC_XMLFILE or HWLOC_FSROOT describe
 *
 * Where /sys does not describe the machine (a jail) it has one node, and each
 * processor is a core of its own.
 *
 * On this machine only processors count that the cpuset of the process and the
 * affinity of the calling thread permit: call it before a thread is pinned.
 *
 * Return:  0; -EINVAL for a description that hwloc refuses; -ENODEV when no
 *          processor may be used, or HWLOC_FSROOT has none; -ENOMEM; or what hwloc failed with
 * Threads: any; nobody may change the environment meanwhile
 * Blocks:  reads /sys, some milliseconds
 */
int fln_topology_load(struct fln_topology **out, const struct fln_allocator *a,
		      const char *synthetic);

/**
 * fln_topology_load_xml() - Read a machine from a file of hwloc's
 * @out:  the topology; written only on success
 * @a:    as for fln_topology_load()
 * @path: what "lstopo file.xml" has written on that machine
 *
 * Return:  0; -EINVAL for a file that is not there or not understood; else as
 *          fln_topology_load()
 * Threads: any; nobody may change the environment meanwhile
 * Blocks:  reads the file
 */
int fln_topology_load_xml(struct fln_topology **out, const struct fln_allocator *a,
			  const char *path);

/**
 * fln_topology_destroy() - Release; NULL is permitted
 *
 * Threads: any, when nobody uses it any more
 * Blocks:  no
 */
void fln_topology_destroy(struct fln_topology *t);

/**
 * fln_topology_is_live() - Whether it is this machine, so that pinning makes sense
 *
 * Return:  false for a description
 * Threads: any
 * Blocks:  no
 */
bool fln_topology_is_live(const struct fln_topology *t);

/**
 * fln_topology_nr_nodes() - Number of NUMA nodes, those without processors too
 *
 * Return:  at least 1
 * Threads: any
 * Blocks:  no
 */
uint32_t fln_topology_nr_nodes(const struct fln_topology *t);

/**
 * fln_topology_nr_pus() - Number of processors that may be used, on all nodes
 *
 * Return:  at least 1
 * Threads: any
 * Blocks:  no
 */
uint32_t fln_topology_nr_pus(const struct fln_topology *t);

/**
 * fln_topology_node_os_index() - The kernel's number of a node
 * @node: node index
 *
 * Return:  the OS index: what allocators and fln_bind_memory() take
 * Threads: any
 * Blocks:  no
 */
uint32_t fln_topology_node_os_index(const struct fln_topology *t, uint32_t node);

/**
 * fln_topology_node_nr_pus() - Number of processors of a node that may be used
 * @node: node index
 *
 * Each processor belongs to one node.  Where the memory of several nodes is equally
 * near (HBM or CXL beside DRAM), that is the first of them.
 *
 * Return:  0 for a node that has memory only, or whose processors are not permitted
 * Threads: any
 * Blocks:  no
 */
uint32_t fln_topology_node_nr_pus(const struct fln_topology *t, uint32_t node);

/**
 * fln_topology_node_pu() - The kernel's number of a node's processor
 * @node: node index
 * @nth:  below fln_topology_node_nr_pus(); one processor of each core comes before
 *        the second of any
 *
 * Return:  the OS index
 * Threads: any
 * Blocks:  no
 */
uint32_t fln_topology_node_pu(const struct fln_topology *t, uint32_t node, uint32_t nth);

/**
 * fln_topology_pu() - A processor
 * @nth: below fln_topology_nr_pus(); node by node, within a node as
 *       fln_topology_node_pu()
 *
 * Return:  it; lives as long as the topology
 * Threads: any
 * Blocks:  no
 */
const struct fln_pu *fln_topology_pu(const struct fln_topology *t, uint32_t nth);

/**
 * fln_topology_node_memory_bytes() - How much memory a node has
 * @node: node index
 *
 * Return:  bytes; 0 for a node that has processors only, and where it is not known
 * Threads: any
 * Blocks:  no
 */
uint64_t fln_topology_node_memory_bytes(const struct fln_topology *t, uint32_t node);

/**
 * fln_topology_distance() - How far a node's memory is from another's processors
 * @from: node index
 * @to:   node index
 *
 * Return:  what firmware says, 10 for a node itself; a guess by packages where it
 *          says nothing
 * Threads: any
 * Blocks:  no
 */
uint32_t fln_topology_distance(const struct fln_topology *t, uint32_t from, uint32_t to);

/**
 * fln_topology_find_node() - The node that the kernel knows by a number
 * @os_index: the kernel's number
 *
 * Return:  the node index; FLN_NODE_ANY when there is none
 * Threads: any
 * Blocks:  no
 */
uint32_t fln_topology_find_node(const struct fln_topology *t, uint32_t os_index);

#endif
