/* SPDX-License-Identifier: MIT */
/*
 * Installing pages of one block: page cache to page tables.
 *
 * On any thread that has claimed the pages (I3), with no lock held.  The calls sleep in ioctls
 * and retry until every page's fate is known.
 */
#ifndef FLN_ENGINE_INSTALL_H
#define FLN_ENGINE_INSTALL_H

#include "base/page.h"

#include <stdbool.h>
#include <stdint.h>

struct fln_region;
struct fln_shard;

/* One block's installs, and their outcome. */
struct fln_install {
	struct fln_shard *shard;
	struct fln_region *region;
	uint64_t block_addr;
	uint64_t block_page;      /* the region's page at block_addr */
	struct fln_mask faulting; /* pages that a thread waits for */
	bool by_worker;        /* on a worker, which may take locks in an in-context region, too */
	uint32_t nr_installed; /* out: pages that these calls have mapped */

	struct fln_mask present; /* out: mapped, by these calls or before */
	struct fln_mask zeroed;  /* out: those of present that are zero pages */
	struct fln_mask again;   /* out: must be retried */
	struct fln_mask starved; /* out: those of again that lacked memory */
	struct fln_mask gone;    /* out: unmapped, or their process has ended */
	struct fln_mask broken;  /* out: refused by the kernel; on_failure decides */
	struct fln_mask
		hole; /* out: in context: not in the cache; a worker must note that in the image */
	bool stop;    /* an event is unread: further calls would fail, too */
};

/* Map @pages, which are filled, and wake the threads that wait for them. */
void fln_install_filled(struct fln_install *in, const struct fln_mask *pages);

/*
 * Map zeros at @pages, and wake.  If the cache has a page after all, that is mapped.  In a private
 * region the kernel does not check the cache: the caller must have.
 */
void fln_install_zero(struct fln_install *in, const struct fln_mask *pages);

/*
 * Poison @pages, or where that is not possible take their access away, and wake their waiters,
 * which get a signal.  Pages that prove to be mapped go to present, those that must be retried to
 * again.
 */
void fln_install_poison(struct fln_install *in, const struct fln_mask *pages,
			struct fln_mask *poisoned);

#endif
