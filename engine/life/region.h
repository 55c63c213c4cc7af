/* SPDX-License-Identifier: MIT */
/*
 * Regions: fln_region_add() and fln_region_remove(), on the caller's thread, in the guest's turn.
 * Both may block: on workers, on a grace period, and as closing.h says.
 */
#ifndef FLN_ENGINE_LIFE_REGION_H
#define FLN_ENGINE_LIFE_REGION_H

#include <stdbool.h>
#include <stdint.h>

struct fln_region;

/*
 * Unmap what the engine has mapped, and free the region.  Requires: it is closed and in no
 * directory, and the caller has the guest's turn or is destroying the guest.
 */
void fln_region_release(struct fln_region *region);

#endif
