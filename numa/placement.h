/* SPDX-License-Identifier: MIT */
/*
 * Where threads run and where memory lies: the two calls that act on a plan.
 */
#ifndef FLN_NUMA_PLACEMENT_H
#define FLN_NUMA_PLACEMENT_H

#include "numa/cpuset.h"
#include "numa/topology.h"

#include <stdint.h>

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
 * fln_pin_thread_to() - Let the calling thread run on some processors only
 * @cpus: of a live topology, at least one
 *
 * Return:  as fln_pin_thread()
 * Threads: any; acts on the caller
 * Blocks:  until the thread has moved
 */
int fln_pin_thread_to(const struct fln_cpuset *cpus);

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
