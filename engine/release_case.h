/* SPDX-License-Identifier: MIT */
/*
 * What is known of a block when its release is decided on (block_policy.h).
 */
#ifndef FLN_ENGINE_RELEASE_CASE_H
#define FLN_ENGINE_RELEASE_CASE_H

#include "engine/block_policy.h"

#include <stdbool.h>
#include <stdint.h>

struct fln_region;
struct fln_shard;

/*
 * Would the kernel alone give the guest's threads what is due in a region, once all of its pages
 * are there?  Not where a later discard must read something else.
 */
bool fln_release_is_possible(const struct fln_region *r);

/* All but quiet and asked, which are false.  RCU read lock held. */
struct fln_block_case fln_release_case(const struct fln_region *r, uint64_t block);

/* A fault's pages of the block are to be filled: does it pay to fill the rest with them? */
bool fln_release_wants_rest(const struct fln_region *r, uint64_t block);

/*
 * Tell the region's image whether sweeps trim it, so that large folios may take more for a while.
 * A guest that has turned out sparse needs no room for that.
 */
void fln_release_tell_image(const struct fln_region *r);

/*
 * Has the block had no new fault since the last look at it?  Notes its faults for the next look,
 * so there must be FLN_QUIET_NS between two.  On the shard's worker, RCU read lock held.
 */
bool fln_release_is_quiet(const struct fln_shard *shard, const struct fln_region *r,
			  uint64_t block);

/* All blocks of the shard were looked at: note its faults for the next look. */
void fln_release_note_faults(struct fln_shard *shard);

/*
 * A block has been mapped as a whole, after @nr_faults faults: what does that tell?  RCU read lock
 * held.
 */
void fln_release_note_mapped(const struct fln_region *r, uint64_t block, uint32_t nr_faults);

/* A block is quiet, and about to be released: what does it tell of the guest's density? */
void fln_release_note_turnout(const struct fln_region *r, uint64_t block,
			      const struct fln_block_case *c);

#endif
