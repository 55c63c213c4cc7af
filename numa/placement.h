/* SPDX-License-Identifier: MIT */
/*
 * Where workers run and where memory lies: the decision, which is pure, and the
 * two calls that act on it.
 */
#ifndef FLN_NUMA_PLACEMENT_H
#define FLN_NUMA_PLACEMENT_H

#include "numa/topology.h"

#include <stdint.h>

/**
 * struct fln_place - Where one worker belongs
 * @node:        node index in the topology
 * @pu_os_index: the kernel's number of the processor
 */
struct fln_place {
	uint32_t node;
	uint32_t pu_os_index;
};

/**
 * fln_place_workers() - Spread workers over nodes, and over processors of a node
 * @nr_workers: at least 1
 * @out:        array of @nr_workers places
 *
 * Nodes take turns; on a node cores come before the second processor of a core.
 * A node whose processors are all taken is passed over until all nodes' are;
 * then it begins anew.  So no processor gets two workers more than another, and
 * no node that has a processor to spare gets two workers fewer than another.
 *
 * Return:  0; -EINVAL when @nr_workers is 0
 * Threads: any
 * Blocks:  no
 */
int fln_place_workers(const struct fln_topology *t, uint32_t nr_workers, struct fln_place *out);

/**
 * fln_pin_thread() - Let the calling thread run on one processor only
 * @pu_os_index: of a live topology
 *
 * Return:  0; -EINVAL when there is no such processor or the cpuset forbids it;
 *          -EPERM or -ENOSYS when the call itself is forbidden.  Unpinned is
 *          slower, not wrong: say so once and go on
 * Threads: any; acts on the caller
 * Blocks:  until the thread has moved
 */
int fln_pin_thread(uint32_t pu_os_index);

/**
 * fln_bind_memory() - Have the pages of a range come from a node, while it has any
 * @addr:          a mapping, page aligned
 * @len_bytes:     a multiple of the page size, not 0
 * @node_os_index: the kernel's number of the node; FLN_NODE_ANY changes nothing
 *
 * Acts on pages that are allocated from now on, of a shared mapping for every
 * process that maps the object.  On a machine with memory on one node only it
 * does nothing but check @addr and @len_bytes.
 *
 * Return:  0; -EINVAL for a range that is unaligned or empty, or a node without
 *          memory that this process may use; -EFAULT for a range with holes;
 *          -EPERM or -ENOSYS when the call itself is forbidden; -ENOMEM.  Memory
 *          elsewhere is slower, not wrong: say so once and go on
 * Threads: any
 * Blocks:  takes mmap_lock
 */
int fln_bind_memory(void *addr, uint64_t len_bytes, uint32_t node_os_index);

#endif
