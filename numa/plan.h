/* SPDX-License-Identifier: MIT */
/*
 * The plan of a machine: which worker serves which node's memory, and where the worker runs.
 *
 * Pure arithmetic on a topology: nothing is started, pinned or bound here.  The engine
 * carries the plan out, and fln_plan_print() prints it, by the same functions.
 */
#ifndef FLN_NUMA_PLAN_H
#define FLN_NUMA_PLAN_H

#include "numa/cpuset.h"
#include "numa/topology.h"

#define FLN_PLAN_MAX_WORKERS 64u

/**
 * struct fln_plan_input - Parameters of a plan
 * @worker_cpus: processors that workers may use, as "0-3,8"; NULL: all
 * @vcpu_cpus:   processors that vCPUs run on; NULL: unknown
 * @nr_workers:  number of workers, at most FLN_PLAN_MAX_WORKERS.  0: one per 8 processors, but
 *               at least two, and at least one for each node that has processors and memory to
 *               serve, and at most one for each processor that workers may use
 */
struct fln_plan_input {
	const char *worker_cpus;
	const char *vcpu_cpus;
	uint32_t nr_workers;
};

/**
 * struct fln_plan_node - A node of the plan, in the order of the topology
 * @os_index:     the kernel's number of the node
 * @server:       index of the node whose workers serve its memory: itself if it has
 *                workers, else the nearest that has some
 * @nr_pus:       its processors that this process may use
 * @nr_may:       of @nr_pus, those that workers may use
 * @nr_free:      of @nr_may, those on which no vCPU runs; excludes strays (struct
 *                fln_pu) if there are others
 * @nr_strays:    of @nr_pus, the strays
 * @nr_vcpu_pus:  of @nr_pus, those that vCPUs run on
 * @first_worker: index of its first worker
 * @nr_workers:   number of its workers; 0 if another node serves it, or it has no memory
 * @has_memory:   it has memory; if no node's memory size is known, true for all
 * @memory_bytes: size of its memory; 0: none, or unknown
 * @nr_worker_pus: number of processors in @worker_cpus
 * @worker_cpus:  processors that its unpinned workers run on, see fln_plan_is_pinned()
 */
struct fln_plan_node {
	uint32_t os_index;
	uint32_t server;
	uint32_t nr_pus;
	uint32_t nr_may;
	uint32_t nr_free;
	uint32_t nr_vcpu_pus;
	uint32_t nr_strays;
	uint32_t nr_worker_pus;
	uint32_t first_worker;
	uint32_t nr_workers;
	bool has_memory;
	uint64_t memory_bytes;
	struct fln_cpuset worker_cpus;
};

/**
 * struct fln_plan_worker - Where a worker runs
 * @pu:             its processor, on its node
 * @shares_vcpu:    a vCPU runs on the same processor, because the node has no other
 * @shares_worker:  another worker runs on the same processor
 * @sibling_of_vcpu: a vCPU runs on another processor of the same core
 */
struct fln_plan_worker {
	struct fln_pu pu;
	bool shares_vcpu;
	bool shares_worker;
	bool sibling_of_vcpu;
};

struct fln_plan {
	struct fln_allocator allocator;
	size_t size_bytes;
	struct fln_plan_node *nodes;
	uint32_t nr_nodes;
	uint32_t nr_workers;
	struct fln_plan_worker workers[FLN_PLAN_MAX_WORKERS]; /* grouped by node */
	struct fln_cpuset vcpu_cpus;
	bool apart; /* vCPUs' processors are known, and workers avoid them where possible */
};

/**
 * fln_plan_create() - Plan a machine
 * @out:   the plan; written only on success
 * @a:     the allocator; copied
 * @t:     the machine, used during the call only
 * @input: the parameters, used during the call only
 *
 * Nodes get workers in proportion to the memory that they serve: one each before any
 * gets a second, and no node more than it has candidate processors while other nodes have
 * unused ones.  A node without processors for workers is served by the nearest node that
 * has some.  Within a node, workers use processors without vCPUs if there are any; the first
 * processor of each core before the second of any; cores without vCPUs before cores with
 * some; and consecutive workers use different caches.  Strays (struct fln_pu) are used
 * only if the node has no others that are as free.
 *
 * Return:  0; -EINVAL for a list that does not parse or leaves workers no
 *          processor, or for more workers than FLN_PLAN_MAX_WORKERS; -ENOMEM
 * Threads: any
 * Blocks:  no
 */
int fln_plan_create(struct fln_plan **out, const struct fln_allocator *a,
		    const struct fln_topology *t, const struct fln_plan_input *input);

/**
 * fln_plan_destroy() - Release; NULL is permitted
 *
 * Threads: any, once no thread uses the plan
 * Blocks:  no
 */
void fln_plan_destroy(struct fln_plan *plan);

/**
 * fln_plan_is_pinned() - Whether a worker is pinned to its processor
 * @worker: index of the worker
 *
 * A worker is pinned if the vCPUs' processors are known and its own is not one of them.
 * Otherwise it may run on all of its node's worker_cpus, and the scheduler tends to wake it on
 * the processor of the faulting thread, which sleeps meanwhile.
 *
 * Return:  true; false: it runs on struct fln_plan_node.worker_cpus
 * Threads: any
 * Blocks:  no
 */
static inline bool fln_plan_is_pinned(const struct fln_plan *plan, uint32_t worker)
{
	return plan->apart && !plan->workers[worker].shares_vcpu;
}

/**
 * fln_plan_node_shards() - The shards of a guest that serve a node's memory
 * @node:      node index
 * @nr_shards: shards of the guest
 * @turn:      the guest's serial number, so that guests with fewer shards than
 *             workers together use all workers
 * @first:     receives the first shard
 * @nr:        receives the number of consecutive shards, at least 1
 *
 * Nodes get shards in proportion to their workers, so the workers' numbers of shards
 * differ by at most one.  A node that would get none uses all shards.
 *
 * Return:  true: the shards belong to the node's server; false: it got none, and
 *          *first and *nr cover all shards
 * Threads: any
 * Blocks:  no
 */
bool fln_plan_node_shards(const struct fln_plan *plan, uint32_t node, uint32_t nr_shards,
			  uint32_t turn, uint32_t *first, uint32_t *nr);

/**
 * fln_plan_shard_worker() - The worker that serves a shard
 * @nr_shards: shards of the guest
 * @turn:      as for fln_plan_node_shards()
 * @shard:     below @nr_shards
 *
 * Neighbouring shards of a node have different workers, if the node has more than one.
 *
 * Return:  index of the worker, which belongs to the shard's node
 * Threads: any
 * Blocks:  no
 */
uint32_t fln_plan_shard_worker(const struct fln_plan *plan, uint32_t nr_shards, uint32_t turn,
			       uint32_t shard);

/**
 * fln_plan_extent() - The part of a guest's memory that should lie on a node
 * @node:         node index
 * @memory_bytes: size of the guest's memory
 * @offset_bytes: receives the offset of the part
 * @len_bytes:    receives the length of the part
 *
 * The guest's memory is split in proportion to the nodes' memory, in blocks of 2 MiB; the last
 * node that has memory takes the remainder.  The parts are consecutive and cover all of it.
 *
 * Return:  whether the part is not empty
 * Threads: any
 * Blocks:  no
 */
bool fln_plan_extent(const struct fln_plan *plan, uint32_t node, uint64_t memory_bytes,
		     uint64_t *offset_bytes, uint64_t *len_bytes);

#endif
