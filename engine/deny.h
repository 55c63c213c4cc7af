/* SPDX-License-Identifier: MIT */
/*
 * Taking the access to pages away that nobody may read once a region is not served any more.
 */
#ifndef FLN_ENGINE_DENY_H
#define FLN_ENGINE_DENY_H

#include "base/page.h"

#include <stdbool.h>
#include <stdint.h>

struct fln_region;

/*
 * What is done to this process's mappings.  A table stands between, so that unit tests put
 * their fake kernel there; engine->memory is NULL for the kernel's own.
 */
struct fln_memory_ops {
	/* As fln_mapping_each_seen(), of all the region. */
	int (*each)(struct fln_region *region,
		    int (*fn)(struct fln_region *region, uint64_t addr, uint64_t len_bytes));
	/* No access to the range, whatever is there.  Return: 0 or -errno. */
	int (*deny)(struct fln_region *region, uint64_t addr, uint64_t len_bytes);
	/*
	 * Anonymous memory in place of the range, but for the pages that are the guest's own.
	 * What is registered of it raises UNMAP, which must be read.  Return: 0 or -errno.
	 */
	int (*zero)(struct fln_region *region, uint64_t addr, uint64_t len_bytes);
	/*
	 * Which pages of the block at @addr a private mapping has copies of (they may be
	 * swapped out).  False: unknown.
	 */
	bool (*own)(struct fln_region *region, uint64_t addr, struct fln_mask *own);
};

/* Pages of a block that may not be left to the kernel.  What was given up is not among them. */
struct fln_mask fln_region_unsafe(const struct fln_region *region, uint64_t block);

/*
 * In this process: take the access away from what is unsafe, and put anonymous memory where a
 * private region's guest gave pages up.  No worker serves the region's faults meanwhile; its
 * events are read by workers, or the calls that would wait for that are not made.
 * Return: 0; -EIO when something that is unsafe is still accessible.  In the guest's turn.
 */
int fln_region_deny(struct fln_region *region);

/*
 * In a foreign region whose discards read the image the map calls a page PRESENT that was
 * copied between the message of a discard and the discard.  So blocks in which anything was
 * ever given up are noted, by the worker that reads the message, and the map is not believed
 * there at the end.  fln_region_doubt_init(): return 0 or -ENOMEM.
 */
int fln_region_doubt_init(struct fln_region *region);
void fln_region_doubt(struct fln_region *region, uint64_t start, uint64_t end);

/* All that lies in the region's address range is about to go: unmap what deny() has put there. */
void fln_region_unmap_zeros(struct fln_region *region);
void fln_region_deny_free(struct fln_region *region);

#endif
