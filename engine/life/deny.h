/* SPDX-License-Identifier: MIT */
/*
 * Making pages inaccessible that no thread may read once their region is no longer served.  Runs
 * on the thread that holds the guest's turn; blocks for system calls on the mappings.
 */
#ifndef FLN_ENGINE_LIFE_DENY_H
#define FLN_ENGINE_LIFE_DENY_H

#include "base/page.h"

#include <stdbool.h>
#include <stdint.h>

struct fln_region;

/*
 * Pages of a block for which contents are due that are not in the cache (the kernel would read
 * zeros).  Discarded pages are not among them.
 */
struct fln_mask fln_region_unsafe(const struct fln_region *region, uint64_t block);

/*
 * In this process: make unsafe pages inaccessible, and map zeros over pages that a private
 * region's guest has discarded.  Requires: no worker serves the region's faults.  Where workers
 * do not read its events, calls that would wait for that are left out.
 * Return: 0; a negative errno if some unsafe page is still accessible.
 */
int fln_region_deny(struct fln_region *region);

/*
 * Map over the pages that fln_region_deny() could only make PROT_NONE, because no worker read
 * UNMAP events or mappings had run out.  Pages for which it fails stay PROT_NONE.  Requires: the
 * range is unregistered.
 */
void fln_region_vacate(struct fln_region *region);

/*
 * Punch unfilled pages out of the cache where a private region's guest has discarded them: an
 * adopted memfd may have come with stale bytes.  The guest's own copies hide these, but a discard
 * after the region's end, of which there is no event, would uncover them.
 */
void fln_region_empty_given_up(struct fln_region *region);

/* Free what deny.c has allocated for the region, and return its mappings to the budget. */
void fln_region_deny_free(struct fln_region *region);

#endif
