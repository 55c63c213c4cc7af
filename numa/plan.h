/* SPDX-License-Identifier: MIT */
/*
 * The plan of a machine: which worker serves which node's memory, and where it runs.
 *
 * Pure arithmetic on a topology: nothing is started, pinned or bound here.  The
 * engine acts on it, and fln_plan_print() shows it, from the same functions.
 */
#ifndef FLN_NUMA_PLAN_H
#define FLN_NUMA_PLAN_H

#include "numa/cpuset.h"
#include "numa/topology.h"

#define FLN_PLAN_MAX_WORKERS 64u

/**
 * struct fln_plan_input - What is wanted of a plan
 * @worker_cpus: processors that workers may have, as "0-3,8"; NULL: all
 * @vcpu_cpus:   processors that vCPUs run on; NULL: not known
 * @nr_workers:  0: one per 8 processors, at least two and one for each node that has
 *               processors and memory to serve, at most one for each processor that
 *               workers may have, and FLN_PLAN_MAX_WORKERS
 */
struct fln_plan_input {
	const char *worker_cpus;
	const char *vcpu_cpus;
	uint32_t nr_workers;
};

/**
 * struct fln_plan_node - A node of the plan, in the order of the topology
 * @os_index:     the kernel's number
 * @server:       node whose workers serve its memory: itself when it has workers,
 *                else the nearest that has
 * @nr_pus:       processors that this process may use
 * @nr_may:       of them, those that workers may have
 * @nr_free:      of these, those that are no vCPU's; without strays (struct fln_pu)
 *                where there are others
 * @nr_strays:    of @nr_pus, those that no node names
 * @nr_vcpu_pus:  of @nr_pus, those of vCPUs
 * @first_worker: its workers are @nr_workers from here on
 * @nr_workers:   0 for a node that another serves, or that has nothing to be served
 * @has_memory:   it has memory; where no node's is known, all have
 * @memory_bytes: how much, 0 where it is not known
 * @nr_worker_pus: processors in @worker_cpus
 * @worker_cpus:  processors among which its workers move, see fln_plan_is_pinned()
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
 * @shares_vcpu:    the processor is a vCPU's, too: its node has no other
 * @shares_worker:  the processor has another worker, too
 * @sibling_of_vcpu: another processor of its core is a vCPU's
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
	struct fln_plan_worker workers[FLN_PLAN_MAX_WORKERS]; /* node by node */
	struct fln_cpuset vcpu_cpus;
	bool apart; /* vCPUs' processors are known, and workers keep off them where they can */
};

/**
 * fln_plan_create() - Plan a machine
 * @out:   the plan; written only on success
 * @a:     where its memory comes from; copied
 * @t:     the machine; not kept
 * @input: what is wanted; not kept
 *
 * Workers are dealt to nodes in proportion to the memory that they serve, one each
 * before any gets a second, and no node more than it has processors before all are
 * taken.  A node without processors for workers is served by the nearest node that
 * has some.  On a node, processors that are no vCPU's come first (and alone, when
 * there are any), cores before second processors of a core, cores without vCPUs
 * before cores with some; and neighbours in this order are on different caches.
 * Processors that no node names come only where there are no others as free.
 *
 * Return:  0; -EINVAL for lists that are not understood, that leave workers no
 *          processor, or more workers than FLN_PLAN_MAX_WORKERS; -ENOMEM
 * Threads: any
 * Blocks:  no
 */
int fln_plan_create(struct fln_plan **out, const struct fln_allocator *a,
		    const struct fln_topology *t, const struct fln_plan_input *input);

/**
 * fln_plan_destroy() - Release; NULL is permitted
 *
 * Threads: any, when nobody uses it any more
 * Blocks:  no
 */
void fln_plan_destroy(struct fln_plan *plan);

/**
 * fln_plan_is_pinned() - Whether a worker stays on its one processor
 * @worker: its number
 *
 * It does where vCPUs' processors are known and it has another.  Else it moves among
 * the processors of its node, and the scheduler tends to put it where it was woken:
 * beside the thread that faults, which sleeps meanwhile.
 *
 * Return:  true; false: see struct fln_plan_node.worker_cpus
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
 * @nr_shards: the guest's
 * @turn:      the guest's running number, so that guests with fewer shards than there
 *             are workers use all workers among them
 * @first:     receives the first, the others follow
 * @nr:        receives how many, at least 1
 *
 * In proportion to workers, so that no worker of any node has two shards more than
 * another.  A node that would get none uses all.
 *
 * Return:  whether they belong to the node's server: false when all are used for
 *          want of one
 * Threads: any
 * Blocks:  no
 */
bool fln_plan_node_shards(const struct fln_plan *plan, uint32_t node, uint32_t nr_shards,
			  uint32_t turn, uint32_t *first, uint32_t *nr);

/**
 * fln_plan_shard_worker() - The worker that serves a shard
 * @nr_shards: the guest's
 * @turn:      as for fln_plan_node_shards()
 * @shard:     below @nr_shards
 *
 * Neighbouring shards of a node have different workers.
 *
 * Return:  the worker's number; its node is that of the shard
 * Threads: any
 * Blocks:  no
 */
uint32_t fln_plan_shard_worker(const struct fln_plan *plan, uint32_t nr_shards, uint32_t turn,
			       uint32_t shard);

/**
 * fln_plan_extent() - The part of a guest's memory that should lie on a node
 * @node:         node index
 * @memory_bytes: the guest's memory, spread in proportion to the nodes' memory, in
 *                blocks of 2 MiB; the last node takes what is left
 * @offset_bytes: receives where the part begins
 * @len_bytes:    receives its length
 *
 * The parts of all nodes follow one another, and are the whole.
 *
 * Return:  whether it is more than nothing
 * Threads: any
 * Blocks:  no
 */
bool fln_plan_extent(const struct fln_plan *plan, uint32_t node, uint64_t memory_bytes,
		     uint64_t *offset_bytes, uint64_t *len_bytes);

#endif
