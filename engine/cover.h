/* SPDX-License-Identifier: MIT */
/*
 * Closing what was never filled by the run, not by the page.
 */
#ifndef FLN_ENGINE_COVER_H
#define FLN_ENGINE_COVER_H

#include <stdbool.h>
#include <stdint.h>

struct fln_region;

/*
 * Make long runs of blocks of which nothing is filled unreadable at once, where
 * that can be done; what it does not do is to be poisoned.  The workers leave the region
 * alone, but for its events.  fln_region_is_covered(): was it done there?
 */
void fln_region_cover(struct fln_region *region);
bool fln_region_is_covered(const struct fln_region *region, uint64_t block);
void fln_region_cover_free(struct fln_region *region);

#endif
