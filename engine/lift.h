/* SPDX-License-Identifier: MIT */
/*
 * Which poison is to be lifted: that of pages that were discarded, so that zeros are due.
 *
 * unpoison.c lifts it.  Called in an RCU read section by any thread that maps or poisons pages;
 * async-signal-safe, except fln_lift_done(), which the owner of the claims calls.
 */
#ifndef FLN_ENGINE_LIFT_H
#define FLN_ENGINE_LIFT_H

#include <stdbool.h>
#include <stdint.h>

struct fln_chunk;
struct fln_mask;
struct fln_region;

/*
 * Is poison lifted in this region?  Not with huge pages, whose poison a discard zaps, nor in
 * foreign regions, whose process discards only its own memory.
 */
bool fln_lift_serves(const struct fln_region *r);

/* Those of the block's pages @poisoned, which the map calls POISONED, where zeros are due. */
struct fln_mask fln_lift_due(const struct fln_region *r, uint64_t block,
			     const struct fln_mask *poisoned);

/*
 * Note in the image that a page is about to be poisoned.  True: it must not be, because it was
 * discarded or filled since its state was looked at.
 */
bool fln_lift_too_late(const struct fln_region *r, uint64_t block, uint32_t page);

/*
 * Pages of the block have been settled as POISONED: note them in the image, and have those lifted
 * that were discarded meanwhile.
 */
void fln_lift_note(const struct fln_region *r, uint64_t block, const struct fln_mask *poisoned);

/*
 * Pages of a shared region were mapped over their poison: clear DISCARDED.  In a shared region it
 * says only that poison is to be lifted; what the page reads is in the cache.
 */
void fln_lift_done(struct fln_chunk *c, const struct fln_mask *present);

#endif
