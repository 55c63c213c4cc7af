/* SPDX-License-Identifier: MIT */
/*
 * Windows of memory whose pages have to be copied, by how densely it is touched.
 *
 * Mapping a neighbour that lies in the page cache costs a fraction of a fault, so a guess
 * may be wrong (window.h).  Copying one costs a fifth of a fault or more, and memory: what
 * is brought for nothing must stay rare.  So nothing is brought that has not been shown to
 * pay.  Nobody tells whether a page that was copied ahead is touched later; but where
 * nothing is copied ahead, each first touch is a fault.
 *
 * Level l is a window of 8^l pages: 1, 8, 64, 512.  A stretch of that size in which smaller
 * windows are used shows how many of its eight parts are touched once one is.  Of each
 * level some stretches are followed from their first fault on.  The parts touched in them,
 * multiplied over the levels, are the part of a window's pages that would be touched; a
 * level is used while that is at least the density that pays.  One stretch in eight, chosen
 * by its address, stays a control: its faults have the windows of the level below.  So the
 * guest goes on being watched, and later stretches take the place of those that have been
 * followed for long.
 *
 * What is found can only be too low: touches that are still to come, stretches that are cut
 * by the end of a region, pages that wait for contents.  Pure arithmetic; the shard's
 * worker alone.
 */
#ifndef FLN_ENGINE_DENSITY_H
#define FLN_ENGINE_DENSITY_H

#include "base/page.h"
#include "engine/window.h"

#include <stdbool.h>
#include <stdint.h>

#define FLN_DENSITY_LEVELS 3u
#define FLN_DENSITY_FOLLOWED 16u /* stretches of a level; a power of two */

/* A stretch that is followed, and what has been seen of it. */
struct fln_density_stretch {
	uint64_t number; /* its address, in stretches */
	uint32_t born;   /* what nr_opened was */
	uint32_t nr_parts;
};

struct fln_density_level {
	uint32_t nr_opened;   /* stretches, modulo 2^32 */
	uint32_t nr_followed; /* of them: entries that are in use */
	uint32_t nr_parts;    /* that were touched in those, all together */
	struct fln_density_stretch followed[FLN_DENSITY_FOLLOWED];
};

struct fln_density {
	uint32_t max;     /* pages of a window, a power of two */
	uint32_t pays_16; /* a window pays when so many in 16 of its pages are touched */
	struct fln_density_level level[FLN_DENSITY_LEVELS]; /* [l - 1]: of level l */
};

/* @max: pages, or 0: the measured default; @kvm: faults are those of vCPUs, and cost more. */
void fln_density_init(struct fln_density *d, uint32_t max, bool kvm);

/*
 * A fault on @page of the block at @block_addr has been read, where the pages in @there are
 * mapped or about to be: note what that shows.
 */
void fln_density_note(struct fln_density *d, uint64_t block_addr, uint32_t page,
		      const struct fln_mask *there);

/* The window for a fault there. */
struct fln_window fln_density_window(const struct fln_density *d, uint64_t block_addr,
				     uint32_t page);

#endif
