/* SPDX-License-Identifier: MIT */
/*
 * Installing pages of one block: from contents that are there to page tables.
 */
#ifndef FLN_ENGINE_INSTALL_H
#define FLN_ENGINE_INSTALL_H

#include "base/page.h"

#include <stdbool.h>
#include <stdint.h>

struct fln_region;
struct fln_shard;

/* What is to be installed in one block, and what came of it. */
struct fln_install {
	struct fln_shard *shard;
	struct fln_region *region;
	uint64_t block_addr;      /* where the block is now (mremap() may have moved it) */
	uint64_t block_page;      /* the region's page at its beginning */
	struct fln_mask faulting; /* pages that somebody waits for */
	bool by_worker;           /* in an in-context region, and may take locks all the same */
	uint32_t nr_installed;    /* out: pages that were mapped just now */

	struct fln_mask present; /* out: are mapped now */
	struct fln_mask zeroed;  /* out: of them, those that are zero */
	struct fln_mask again;   /* out: to be tried again */
	struct fln_mask starved; /* out: of them, those for which there was no memory */
	struct fln_mask gone;    /* out: their range has gone */
	struct fln_mask broken;  /* out: the kernel refuses; the policy decides */
	struct fln_mask hole; /* out: in context: not in the cache; a worker must tell the image */
	bool stop;            /* an event is unread: more calls would fail too */
};

/* Map @pages, whose contents the image has, and wake the threads that wait for them. */
void fln_install_filled(struct fln_install *in, const struct fln_mask *pages);

/*
 * Map zeros at @pages, and wake.  A page may be in the cache after all: then that.
 * In a private region the kernel does not look: the caller has made sure.
 */
void fln_install_zero(struct fln_install *in, const struct fln_mask *pages);

/*
 * Make @pages unreadable, and wake their waiters into a signal.  What
 * turns out to be mapped lands in present, what cannot be done yet in again.
 */
void fln_install_poison(struct fln_install *in, const struct fln_mask *pages,
			struct fln_mask *poisoned);

#endif
