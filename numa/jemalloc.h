/* SPDX-License-Identifier: MIT */
/*
 * An allocator table backed by jemalloc, with an arena per NUMA node.
 *
 * For programs.  The library never links it: libjemalloc exports malloc, and
 * a program that links it has the allocator of the whole process replaced.
 */
#ifndef FLN_NUMA_JEMALLOC_H
#define FLN_NUMA_JEMALLOC_H

#include "numa/topology.h"

/**
 * fln_jemalloc_allocator_create() - Make an arena for each node, and the table
 * @t:   not kept
 * @out: the table; written only on success.  Its @node argument is the kernel's
 *       number of a node; FLN_NODE_ANY, or a node that @t does not know, is
 *       served by the process's ordinary arenas
 *
 * Return:  0; -ENOMEM; -EAGAIN when jemalloc has no arena left; or what its
 *          mallctl() failed with
 * Threads: any; the table's functions too
 * Blocks:  briefly (maps memory)
 */
int fln_jemalloc_allocator_create(const struct fln_topology *t, struct fln_allocator *out);

/**
 * fln_jemalloc_allocator_destroy() - Give the arenas back, clear the table
 * @a: from fln_jemalloc_allocator_create(), or all zeros; NULL is permitted
 *
 * All that was allocated must have been freed: the memory goes, used or not.
 *
 * Threads: any, when nobody uses a copy of the table any more
 * Blocks:  briefly (unmaps memory)
 */
void fln_jemalloc_allocator_destroy(struct fln_allocator *a);

/**
 * fln_jemalloc_bind_error() - Whether memory could be bound to its node so far
 * @a: from fln_jemalloc_allocator_create()
 *
 * Memory that could not be bound is handed out all the same.
 *
 * Return:  0, or the first negative errno of fln_bind_memory(), to be told once
 * Threads: any
 * Blocks:  no
 */
int fln_jemalloc_bind_error(const struct fln_allocator *a);

#endif
