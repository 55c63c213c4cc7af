/* SPDX-License-Identifier: MIT */
/* An allocator that counts its blocks, and runs out when a test says so. */
#ifndef FLN_TESTS_BLOCKS_H
#define FLN_TESTS_BLOCKS_H

#include <faultlane/base.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

struct blocks {
	uint32_t nr;      /* in use */
	uint32_t nr_left; /* allocations that succeed */
};

static inline void *blocks_take(void *ctx, size_t size_bytes, size_t align_bytes, uint32_t node)
{
	struct blocks *b = ctx;

	(void)node;
	if (b->nr_left == 0)
		return NULL;
	b->nr_left--;
	b->nr++;
	return aligned_alloc(align_bytes,
			     (size_bytes + align_bytes - 1) / align_bytes * align_bytes);
}

static inline void blocks_give_back(void *ctx, void *ptr, size_t size_bytes, uint32_t node)
{
	struct blocks *b = ctx;

	(void)size_bytes;
	(void)node;
	b->nr -= ptr != NULL;
	free(ptr);
}

/* @blocks is to be zeroed but for nr_left. */
static inline struct fln_allocator blocks_allocator(struct blocks *blocks)
{
	return (struct fln_allocator){ .size = sizeof(struct fln_allocator),
				       .ctx = blocks,
				       .alloc = blocks_take,
				       .free = blocks_give_back };
}

#endif
