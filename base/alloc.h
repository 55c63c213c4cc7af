/* SPDX-License-Identifier: MIT */
/*
 * The allocator table that an engine was given, or the C library's.
 */
#ifndef FLN_BASE_ALLOC_H
#define FLN_BASE_ALLOC_H

#include <faultlane/base.h>

/* Check a caller's table and copy it; NULL gives the C library's. */
int fln_alloc_init(struct fln_allocator *into, const struct fln_allocator *from);

/* Zeroed memory, or NULL.  Aligned to a cache line at least. */
void *fln_zalloc(const struct fln_allocator *a, size_t size_bytes, uint32_t node);
void fln_free(const struct fln_allocator *a, void *ptr, size_t size_bytes, uint32_t node);

#endif
