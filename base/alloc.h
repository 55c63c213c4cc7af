/* SPDX-License-Identifier: MIT */
/*
 * The allocator of an engine: the embedder's table (struct fln_allocator), or the C library's.
 */
#ifndef FLN_BASE_ALLOC_H
#define FLN_BASE_ALLOC_H

#include <faultlane/base.h>

/* Check the caller's table and copy it; a NULL @from selects the C library.  Return: 0; -errno. */
int fln_alloc_init(struct fln_allocator *into, const struct fln_allocator *from);

/*
 * Allocate zeroed memory, aligned to a cache line at least.  @node: the NUMA node that it should
 * lie on, which the C library ignores.  Return: NULL when out of memory.
 */
void *fln_zalloc(const struct fln_allocator *a, size_t size_bytes, uint32_t node);
void fln_free(const struct fln_allocator *a, void *ptr, size_t size_bytes, uint32_t node);

#endif
