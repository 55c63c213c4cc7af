/* SPDX-License-Identifier: MIT */
/*
 * The topology of a machine: its NUMA nodes, and the processors of each that this
 * process may use.
 */
#ifndef FLN_NUMA_TOPOLOGY_H
#define FLN_NUMA_TOPOLOGY_H

#include "base/alloc.h"

#include <stdbool.h>
#include <stdint.h>

/*
 * A node index counts the nodes from 0 without gaps.  An OS index is the kernel's number of
 * a node or a processor; OS indexes can have gaps.  A processor (PU) is one hardware
 * thread of a core, which the kernel calls a CPU.
 */
struct fln_topology;

/**
 * struct fln_pu - A processor that this process may use
 * @os_index: the kernel's number
 * @node:     node index
 * @core:     its core; cores, caches and packages are counted from 0 over the machine
 * @cache:    its last-level cache; its package if no cache is known
 * @package:  its package
 * @smt_rank: index among the usable processors of its core
 * @logical:  its position in hwloc's order, in which neighbours are near each other
 * @stray:    1: it is local to no node, for instance because cpuset.mems excludes its node;
 *            @node is 0 then, which may be far away.  0 otherwise
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
 * fln_topology_load() - Read the topology of this machine, or a description of one
 * @out:       the topology; written only on success
 * @a:         the allocator; NULL: the C library.  Copied.  hwloc allocates from the C
 *             library, and that memory is freed before this returns
 * @synthetic: hwloc's synthetic description, such as "node:4 core:4 pu:2"; NULL: this
 *             machine, or the one that HWLOC_SYNTHETIC, HWLOC_XMLFILE or HWLOC_FSROOT describe
 *
 * If /sys does not describe the machine (in a chroot), the topology has one node, and each
 * processor is a core of its own.
 *
 * On this machine, the topology has only processors that the cpuset of the process and the
 * affinity of the calling thread permit: call it before pinning the thread.
 *
 * Return:  0; -EINVAL for a description that hwloc refuses; -ENODEV when the process may use
 *          no processor, or HWLOC_FSROOT has none; -ENOMEM; or the errno of hwloc
 * Threads: any, while no thread changes the environment
 * Blocks:  reads /sys, some milliseconds
 */
int fln_topology_load(struct fln_topology **out, const struct fln_allocator *a,
		      const char *synthetic);

/**
 * fln_topology_load_xml() - Read a topology from an hwloc XML file
 * @out:  the topology; written only on success
 * @a:    as for fln_topology_load()
 * @path: the file, written by "lstopo file.xml" on that machine
 *
 * Return:  0; -EINVAL for a file that does not exist or does not parse; else as
 *          fln_topology_load()
 * Threads: any, while no thread changes the environment
 * Blocks:  reads the file
 */
int fln_topology_load_xml(struct fln_topology **out, const struct fln_allocator *a,
			  const char *path);

/**
 * fln_topology_destroy() - Release; NULL is permitted
 *
 * Threads: any, once no thread uses the topology
 * Blocks:  no
 */
void fln_topology_destroy(struct fln_topology *t);

/**
 * fln_topology_is_live() - Whether it describes this machine, so that pinning makes sense
 *
 * Return:  false for a synthetic or XML description
 * Threads: any
 * Blocks:  no
 */
bool fln_topology_is_live(const struct fln_topology *t);

/**
 * fln_topology_nr_nodes() - Number of NUMA nodes, including those without processors
 *
 * Return:  at least 1
 * Threads: any
 * Blocks:  no
 */
uint32_t fln_topology_nr_nodes(const struct fln_topology *t);

/**
 * fln_topology_nr_pus() - Number of usable processors, on all nodes
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
 * Return:  the OS index, which allocators and fln_bind_memory() take
 * Threads: any
 * Blocks:  no
 */
uint32_t fln_topology_node_os_index(const struct fln_topology *t, uint32_t node);

/**
 * fln_topology_node_nr_pus() - Number of usable processors of a node
 * @node: node index
 *
 * Each processor belongs to one node.  If it is equally near to several (HBM or CXL
 * beside DRAM), it belongs to the first.
 *
 * Return:  0 for a node without processors, or whose processors are not permitted
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
 * Return:  the processor; valid as long as the topology
 * Threads: any
 * Blocks:  no
 */
const struct fln_pu *fln_topology_pu(const struct fln_topology *t, uint32_t nth);

/**
 * fln_topology_node_memory_bytes() - The size of a node's memory
 * @node: node index
 *
 * Return:  bytes; 0: none, or unknown
 * Threads: any
 * Blocks:  no
 */
uint64_t fln_topology_node_memory_bytes(const struct fln_topology *t, uint32_t node);

/**
 * fln_topology_distance() - How far a node's memory is from another's processors
 * @from: index of the node with the processors
 * @to:   index of the node with the memory
 *
 * Return:  the distance that firmware gives, 10 for the node itself; where it gives none, a
 *          guess by packages
 * Threads: any
 * Blocks:  no
 */
uint32_t fln_topology_distance(const struct fln_topology *t, uint32_t from, uint32_t to);

/**
 * fln_topology_find_node() - Find a node by the kernel's number
 * @os_index: the kernel's number
 *
 * Return:  the node index; FLN_NODE_ANY when there is none
 * Threads: any
 * Blocks:  no
 */
uint32_t fln_topology_find_node(const struct fln_topology *t, uint32_t os_index);

#endif
