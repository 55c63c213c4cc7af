/* SPDX-License-Identifier: MIT */
/*
 * Blocks of a foreign region of which the map may not be believed.
 */
#ifndef FLN_ENGINE_DOUBT_H
#define FLN_ENGINE_DOUBT_H

#include <stdbool.h>
#include <stdint.h>

struct fln_region;

/*
 * In a foreign region whose discards read the image the map calls a page PRESENT that was
 * copied between the message of a discard and the discard.  So blocks in which anything was
 * ever given up are noted, by the worker that reads the message, and the map is not believed
 * there at the end.  fln_region_doubt_init(): return 0 or -ENOMEM.
 */
int fln_region_doubt_init(struct fln_region *region);

void fln_region_doubt(struct fln_region *region, uint64_t start, uint64_t end);

void fln_region_doubt_free(struct fln_region *region);

/* Has anything been given up in the block, so that PRESENT may not be believed at the end? */
bool fln_region_is_doubted(const struct fln_region *region, uint64_t block);

#endif
