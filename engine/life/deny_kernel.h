/* SPDX-License-Identifier: MIT */
/*
 * This process's mappings, as the kernel has them: what deny.c does to them.
 */
#ifndef FLN_ENGINE_LIFE_DENY_KERNEL_H
#define FLN_ENGINE_LIFE_DENY_KERNEL_H

#include <stdbool.h>
#include <stdint.h>

struct fln_mask;
struct fln_region;

/*
 * What is done to this process's mappings.  A table stands between, so that unit tests put
 * their fake kernel there; engine->memory is NULL for the kernel's own.
 */
struct fln_memory_ops {
	/* As fln_mapping_each_seen(), of all the region. */
	int (*each)(struct fln_region *region,
		    int (*fn)(struct fln_region *region, uint64_t addr, uint64_t len_bytes));
	/*
	 * In place of the range a mapping that raises SIGBUS.  What is registered of it raises
	 * UNMAP, which must be read.  Return: 0 or -errno.
	 */
	int (*vacate)(struct fln_region *region, uint64_t addr, uint64_t len_bytes);
	/*
	 * Zeros in place of the range, but for the pages that are the guest's own.
	 * What is registered of it raises UNMAP, which must be read.  Return: 0 or -errno.
	 */
	int (*zero)(struct fln_region *region, uint64_t addr, uint64_t len_bytes);
	/* How many mappings this process may still make; 0, also where this is NULL: unknown. */
	uint64_t (*nr_left)(void);
	/*
	 * Which pages of the block at @addr a private mapping has copies of (they may be
	 * swapped out).  False: unknown.
	 */
	bool (*own)(struct fln_region *region, uint64_t addr, struct fln_mask *own);
};

extern const struct fln_memory_ops fln_kernel_memory;

#endif
