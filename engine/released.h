/* SPDX-License-Identifier: MIT */
/*
 * What has been released from its userfaultfd: the kernel serves it, for good.
 *
 * Looks at regions' maps only, and takes no lock.
 */
#ifndef FLN_ENGINE_RELEASED_H
#define FLN_ENGINE_RELEASED_H

#include "engine/region_map.h"
#include "engine/state/guest.h"

#include <stdbool.h>
#include <stdint.h>

struct fln_fault;

/* Is the block at @addr of a region released?  RCU read lock held; async-signal-safe. */
static inline bool fln_released_at(const struct fln_region *r, uint64_t addr)
{
	return fln_region_is_released(&r->map, fln_region_page_of(r, addr) / FLN_BLOCK_PAGES);
}

static inline bool fln_region_all_released(const struct fln_region *r)
{
	return fln_blockmap_nr_closed(&r->map) == r->map.nr_blocks;
}

/* Is all of the guest released?  False for a guest without regions.  RCU read lock held. */
bool fln_guest_all_released(const struct fln_guest *guest);

/* Is all of [addr, end) released, which lies in regions?  Any thread. */
bool fln_range_all_released(const struct fln_guest *guest, uint64_t addr, uint64_t end);

/*
 * Faults on a released block that a worker has read, or holds: their threads are woken, and fault
 * again, in the kernel.  RCU read lock held.
 */
void fln_released_end_faults(struct fln_shard *shard, const struct fln_region *r,
			     const struct fln_fault *faults, uint32_t nr);

/* Blocks of a region were released: if those were the guest's last, have its userfaultfds closed. */
void fln_released_note(struct fln_region *r);

#endif
