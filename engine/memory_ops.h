/* SPDX-License-Identifier: MIT */
/*
 * What the engine does to, and asks about, the mappings of this process.
 */
#ifndef FLN_ENGINE_MEMORY_OPS_H
#define FLN_ENGINE_MEMORY_OPS_H

#include <stdbool.h>
#include <stdint.h>

struct fln_mask;
struct fln_region;

/*
 * A table, so that unit tests can use a fake kernel; engine->memory is NULL for the kernel's
 * (life/deny_kernel.h).
 */
struct fln_memory_ops {
	/* As fln_mapping_each_seen(), for the whole region. */
	int (*each)(struct fln_region *region,
		    int (*fn)(struct fln_region *region, uint64_t addr, uint64_t len_bytes));
	/*
	 * Replace the range by a mapping that raises SIGBUS.  If it is registered that raises
	 * UNMAP, and blocks until the event is read.  Return: 0 or -errno.
	 */
	int (*vacate)(struct fln_region *region, uint64_t addr, uint64_t len_bytes);
	/*
	 * Map zeros over the range, except over the guest's own copies.  If it is registered that
	 * raises UNMAP, and blocks until the event is read.  Return: 0 or -errno.
	 */
	int (*zero)(struct fln_region *region, uint64_t addr, uint64_t len_bytes);
	/* How many mappings this process may still make; 0, or a NULL here: unknown. */
	uint64_t (*nr_left)(void);
	/*
	 * The pages of the block at @addr that a private mapping has copied, in memory or in swap.
	 * False: unknown.
	 */
	bool (*own)(struct fln_region *region, uint64_t addr, struct fln_mask *own);
};

#endif
