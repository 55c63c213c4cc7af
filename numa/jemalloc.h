/* SPDX-License-Identifier: MIT */
/*
 * An allocator (struct fln_allocator) backed by jemalloc, with an arena per NUMA node.
 *
 * For programs only.  The library never links it: libjemalloc exports malloc(), so linking
 * it replaces the allocator of the whole process.
 */
#ifndef FLN_NUMA_JEMALLOC_H
#define FLN_NUMA_JEMALLOC_H

#include "numa/topology.h"

/**
 * fln_jemalloc_allocator_create() - Create an arena for each node, and the allocator
 * @t:   the topology, used during the call only
 * @out: the allocator; written only on success.  Its functions take the kernel's
 *       number of a node; FLN_NODE_ANY and nodes that @t lacks are
 *       served by the process's ordinary arenas
 *
 * Return:  0; -ENOMEM; -EAGAIN when jemalloc has no arena left; or the error of
 *          mallctl()
 * Threads: any; the allocator's functions too
 * Blocks:  briefly (maps memory)
 */
int fln_jemalloc_allocator_create(const struct fln_topology *t, struct fln_allocator *out);

/**
 * fln_jemalloc_allocator_destroy() - Destroy the arenas and clear the allocator
 * @a: from fln_jemalloc_allocator_create(), or all zeros; NULL is permitted
 *
 * Everything allocated from it must have been freed: the arenas' memory is unmapped.
 *
 * Threads: any, once no copy of the allocator is in use
 * Blocks:  briefly (unmaps memory)
 */
void fln_jemalloc_allocator_destroy(struct fln_allocator *a);

/**
 * fln_jemalloc_bind_error() - The first failure to bind memory to its node
 * @a: from fln_jemalloc_allocator_create()
 *
 * Memory that could not be bound is returned to the caller nevertheless.
 *
 * Return:  0: none so far; else the first negative errno of fln_bind_memory()
 * Threads: any
 * Blocks:  no
 */
int fln_jemalloc_bind_error(const struct fln_allocator *a);

#endif
