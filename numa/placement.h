/* SPDX-License-Identifier: MIT */
/*
 * Pins threads to processors and binds memory to NUMA nodes.
 */
#ifndef FLN_NUMA_PLACEMENT_H
#define FLN_NUMA_PLACEMENT_H

#include "numa/cpuset.h"
#include "numa/topology.h"

#include <stdint.h>

/**
 * fln_pin_thread() - Pin the calling thread to one processor
 * @pu_os_index: the kernel's number of the processor
 *
 * Return:  0; -EINVAL when there is no such processor or the cpuset forbids it;
 *          -EPERM or -ENOSYS when the system call is forbidden.  Running unpinned is
 *          slower but correct: warn once and continue
 * Threads: any; acts on the caller
 * Blocks:  until the thread has moved
 */
int fln_pin_thread(uint32_t pu_os_index);

/**
 * fln_pin_thread_to() - Restrict the calling thread to a set of processors
 * @cpus: at least one processor
 *
 * Return:  as fln_pin_thread()
 * Threads: any; acts on the caller
 * Blocks:  until the thread has moved
 */
int fln_pin_thread_to(const struct fln_cpuset *cpus);

/**
 * fln_bind_memory() - Prefer a node for the pages of a range
 * @addr:          a mapping, page aligned
 * @len_bytes:     a multiple of the page size, not 0
 * @node_os_index: the kernel's number of the node; FLN_NODE_ANY changes nothing
 *
 * Applies to pages allocated from now on; for a shared mapping, in every process
 * that maps the object.  On a machine with memory on one node only it
 * just checks @addr and @len_bytes.
 *
 * Return:  0; -EINVAL for a range that is unaligned or empty, or a node without
 *          memory that this process may use; -EFAULT for a range with holes;
 *          -EPERM or -ENOSYS when the system call is forbidden; -ENOMEM.  Remote memory
 *          is slower but correct: warn once and continue
 * Threads: any
 * Blocks:  takes mmap_lock
 */
int fln_bind_memory(void *addr, uint64_t len_bytes, uint32_t node_os_index);

#endif
