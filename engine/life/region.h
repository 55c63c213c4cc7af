/* SPDX-License-Identifier: MIT */
/*
 * Regions: adding a range of memory to a guest, and taking it away.
 */
#ifndef FLN_ENGINE_LIFE_REGION_H
#define FLN_ENGINE_LIFE_REGION_H

#include <stdbool.h>
#include <stdint.h>

struct fln_region;

/* Free a region that nobody uses any more.  In the guest's turn, or at its destruction. */
void fln_region_release(struct fln_region *region);

#endif
