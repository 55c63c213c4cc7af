/* SPDX-License-Identifier: MIT */
/*
 * Doubted blocks: those of a foreign region whose map must not be believed at its end.
 *
 * The shard's worker marks them; the thread that closes the region reads them.  Nothing here
 * blocks.
 */
#ifndef FLN_ENGINE_DOUBT_H
#define FLN_ENGINE_DOUBT_H

#include <stdbool.h>
#include <stdint.h>

struct fln_region;

/*
 * A page that is copied after the event of a discard was read, but before the kernel has zapped
 * the range, goes with the discard; the map of a foreign region with FLN_DISCARD_IMAGE goes on
 * calling it PRESENT.  So all blocks in which anything was ever discarded are marked as doubted.
 * No-op for other regions.  Return: 0; -ENOMEM.
 */
int fln_region_doubt_init(struct fln_region *region);

/* Mark the blocks of [start, end), which is being discarded. */
void fln_region_doubt(struct fln_region *region, uint64_t start, uint64_t end);

void fln_region_doubt_free(struct fln_region *region);

/* Was anything discarded in the block, so that its PRESENT must not be believed? */
bool fln_region_is_doubted(const struct fln_region *region, uint64_t block);

#endif
