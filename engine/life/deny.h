/* SPDX-License-Identifier: MIT */
/*
 * Taking the access to pages away that nobody may read once a region is not served any more.
 */
#ifndef FLN_ENGINE_LIFE_DENY_H
#define FLN_ENGINE_LIFE_DENY_H

#include "base/page.h"

#include <stdbool.h>
#include <stdint.h>

struct fln_region;

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
 * What fln_region_deny() could take the access from, but not map over, because nobody read
 * UNMAP events or mappings had run out: mapped over now, as the range is registered no more.
 * What fails stays as it is.  In the guest's turn.
 */
void fln_region_vacate(struct fln_region *region);

/*
 * Where a private region's guest gave pages up and the image's page is not filled, nothing is
 * left in the cache of what an adopted memfd came with.  The guest's own copies lie over it,
 * and a discard after the end, which nobody sees, takes them away.
 */
void fln_region_empty_given_up(struct fln_region *region);

void fln_region_deny_free(struct fln_region *region);

#endif
