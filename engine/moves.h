/* SPDX-License-Identifier: MIT */
/* What mremap() has moved; see moves.c. */
#ifndef FLN_ENGINE_MOVES_H
#define FLN_ENGINE_MOVES_H

#include "base/page.h"
#include "engine/shard.h"

#include <stdbool.h>
#include <stdint.h>

/* Where a fault's page was before mremap() moved it. */
uint64_t fln_shard_unmove(const struct fln_shard *shard, uint64_t addr);

/*
 * Which pages of the block at @block_addr are those of the block whose home
 * is @home_addr.  The others lie elsewhere, and something else may lie in their place.
 */
struct fln_mask fln_shard_lying(const struct fln_shard *shard, uint64_t block_addr,
				uint64_t home_addr);

/*
 * Does the map speak of the page at @addr, whose home is @home_addr?  Not
 * of a place that mremap() has left: of that a fault may be held, or
 * still come, where the old place stays mapped, while the page lies and is known elsewhere.
 */
bool fln_shard_has_map(const struct fln_shard *shard, uint64_t addr, uint64_t home_addr);

/* The moves of a shard as they are now; returns how many. */
uint32_t fln_shard_moves(struct fln_shard *shard, struct fln_move moves[FLN_MAX_MOVES]);

/*
 * Forget moves of what is no region's any more.  No event tells of what
 * becomes of an unregistered range: something else may lie there, and be served.  By
 * the shard's worker, or in the guest's turn when it has none.
 */
void fln_shard_forget_moves(struct fln_shard *shard);

/* Note that mremap() has moved something.  False: no room; it is not served. */
bool fln_shard_remap(struct fln_shard *shard, uint64_t from, uint64_t to, uint64_t len_bytes);

/* The part of [start, end) that lies together: in one move, or in none. */
struct fln_span {
	uint64_t home;
	uint64_t stop;
};

/* The span that @at is in, up to @end at most.  By who writes the shard's moves. */
struct fln_span fln_shard_span_at(const struct fln_shard *shard, uint64_t at, uint64_t end);

/* Nothing that was moved lies in [start, end) any more.  As fln_shard_remap(). */
bool fln_shard_cut_moves(struct fln_shard *shard, uint64_t start, uint64_t end);

/*
 * Onto which pages of the block at @block_addr pages of the guest's other shards have been
 * moved: they are not what is due there.  @own is left out; NULL in context, where all
 * count.  False: that is changing, look again.  May be called in a signal handler.
 */
bool fln_guest_moved_onto(const struct fln_guest *guest, const struct fln_shard *own,
			  uint64_t block_addr, struct fln_mask *pages);

/*
 * Events of the shard are read between these two, and those that move something are acted
 * upon.  Who has moved it goes on when that is read: in context nobody believes meanwhile
 * what lies where.
 */
void fln_shard_reading_begin(struct fln_shard *shard);
void fln_shard_reading_end(struct fln_shard *shard);

#endif
