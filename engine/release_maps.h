/* SPDX-License-Identifier: MIT */
/*
 * The mappings that releases add to a process, and take from the engine's budget.
 *
 * A mapping ends where the userfaultfd changes: a block that leaves its userfaultfd in the middle of
 * a stripe makes three of one.  Shared mappings that are alike merge when both have left.  Private
 * ones of this process do not if both have pages of their own and were apart when they got the first
 * (anon_vma): that is not known here, so each is taken to stay until the mappings are counted, which
 * is done when none is left, and when all is released.  A foreign region is one mapping that has
 * pages before a part of it leaves, so its parts merge.
 */
#ifndef FLN_ENGINE_RELEASE_MAPS_H
#define FLN_ENGINE_RELEASE_MAPS_H

#include "engine/state/guest.h"

#include <stdbool.h>
#include <stdint.h>

/* The first byte of a block that is the region's; of the block behind the last one, its end. */
uint64_t fln_block_addr(const struct fln_region *r, uint64_t block);

/*
 * By how many the mappings grow at most when the blocks [block, end), of one stripe, leave their
 * userfaultfd.
 */
int64_t fln_release_growth(const struct fln_region *r, uint64_t block, uint64_t end);

/*
 * Change what the region has of the budget by @nr mappings.  False: so many are not left.  May read
 * /proc, once a second.
 */
bool fln_release_take_maps(struct fln_region *r, int64_t nr) FLN_REQUIRES(r->guest->release.lock);

/* The same for mappings that are there already, if need be beyond the budget. */
void fln_release_note_maps(struct fln_region *r, int64_t nr) FLN_REQUIRES(r->guest->release.lock);

/*
 * UNREGISTER has failed, for which @nr were taken, and may have cut a mapping all the same: these
 * stay taken, once for the region, until a run of it is released.
 */
void fln_release_keep_maps(struct fln_region *r, int64_t nr) FLN_REQUIRES(r->guest->release.lock);
void fln_release_give_back_kept(struct fln_region *r) FLN_REQUIRES(r->guest->release.lock);

/* Count the mappings of a private region that have not merged.  Reads /proc. */
void fln_release_recount(struct fln_region *r);

/* The region ends: give all back, its stripes, too.  In the guest's turn. */
void fln_release_end_maps(struct fln_region *r);

#endif
