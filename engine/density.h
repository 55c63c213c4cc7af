/* SPDX-License-Identifier: MIT */
/*
 * The window policy for memory whose pages must be copied: by how densely it is touched.
 *
 * Mapping a neighbour that lies in the page cache costs a fraction of a fault, so a wrong guess
 * is cheap (window.h).  Copying one costs a fifth of a fault or more, and memory: pages that are
 * copied but never touched must stay rare.  So neighbours are copied only where that has been
 * shown to pay.  Nothing shows whether a page that was copied ahead is touched later; but where
 * nothing is copied ahead, every first touch is a fault.
 *
 * Level l is a window of 8^l pages: 1, 8, 64, 512.  A stretch of that size which is served with
 * smaller windows shows how many of its eight parts are touched once one of them is.  On each
 * level some stretches are followed from their first fault on.  The fractions of parts that are
 * touched in them, multiplied over the levels, estimate the fraction of a window's pages that
 * would be touched; a level is used while that is at least the density that pays.  One stretch
 * in eight, chosen by its address, stays a control: its faults get the windows of the level below.
 * So the guest continues to be observed, and newer stretches replace those that have been followed
 * for long.
 *
 * The estimate errs on the low side only: it misses touches that are still to come, stretches that
 * are cut by a region's end, pages that wait for contents.  Pure computation; the state belongs to
 * the shard's worker.
 */
#ifndef FLN_ENGINE_DENSITY_H
#define FLN_ENGINE_DENSITY_H

#include "base/page.h"
#include "engine/window.h"

#include <stdbool.h>
#include <stdint.h>

#define FLN_DENSITY_LEVELS 3u
#define FLN_DENSITY_FOLLOWED 16u /* stretches of a level; a power of two */

/* A stretch that is followed, and what has been observed in it. */
struct fln_density_stretch {
	uint64_t number;   /* its address, in stretches */
	uint32_t born;     /* nr_opened when it was opened */
	uint32_t nr_parts; /* of it that were touched */
};

struct fln_density_level {
	uint32_t nr_opened;   /* stretches that have had a fault, modulo 2^32 */
	uint32_t nr_followed; /* entries of followed[] that are in use */
	uint32_t nr_parts;    /* sum of theirs */
	struct fln_density_stretch followed[FLN_DENSITY_FOLLOWED];
};

struct fln_density {
	uint32_t max;     /* pages of a window, a power of two */
	uint32_t pays_16; /* a window pays if so many in 16 of its pages are touched */
	struct fln_density_level level[FLN_DENSITY_LEVELS]; /* [l - 1]: of level l */
};

/* @max: pages; 0: the measured default.  @kvm: vCPUs of KVM fault, at a higher cost. */
void fln_density_init(struct fln_density *d, uint32_t max, bool kvm);

/*
 * Learn from a new fault on @page of the block at @block_addr, of which the pages in @there are
 * mapped or about to be.
 */
void fln_density_note(struct fln_density *d, uint64_t block_addr, uint32_t page,
		      const struct fln_mask *there);

/* The window for a fault on @page. */
struct fln_window fln_density_window(const struct fln_density *d, uint64_t block_addr,
				     uint32_t page);

#endif
