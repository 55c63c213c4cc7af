/* SPDX-License-Identifier: MIT */
/*
 * Poison that is to be lifted, because its page was given up: which that is.
 */
#ifndef FLN_ENGINE_LIFT_H
#define FLN_ENGINE_LIFT_H

#include <stdbool.h>
#include <stdint.h>

struct fln_chunk;
struct fln_mask;
struct fln_region;

/*
 * Is poison of the region lifted?  That of huge pages goes with the page, and another
 * process's discards are its own affair.
 */
bool fln_lift_serves(const struct fln_region *r);

/*
 * Of @poisoned, what the map calls POISONED in the block, the pages that were given up: not
 * lost, zeros are due there.  RCU read lock held; async-signal-safe.
 */
struct fln_mask fln_lift_due(const struct fln_region *r, uint64_t block,
			     const struct fln_mask *poisoned);

/*
 * The page is about to be poisoned.  True: it may be read by now, and must not be: it was
 * given up, or has come, since its state was looked at.  As above.
 */
bool fln_lift_too_late(const struct fln_region *r, uint64_t block, uint32_t page);

/* Pages of the block have been settled as POISONED.  As above. */
void fln_lift_note(const struct fln_region *r, uint64_t block, const struct fln_mask *poisoned);

/*
 * Pages of a shared region are mapped, and their poison has gone.  There DISCARDED says
 * no more than that: what is due is in the cache.
 */
void fln_lift_done(struct fln_chunk *c, const struct fln_mask *present);

#endif
