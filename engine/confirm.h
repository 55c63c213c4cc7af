/* SPDX-License-Identifier: MIT */
/*
 * Confirming by the page tables what a region's map calls PRESENT.
 *
 * Reads /proc/self/pagemap, through a descriptor that its caller opens and closes.  Not in
 * signal handlers.
 */
#ifndef FLN_ENGINE_CONFIRM_H
#define FLN_ENGINE_CONFIRM_H

#include "base/page.h"

#include <stdbool.h>
#include <stdint.h>

struct fln_region;

/*
 * Returns those of @pages of a block that the map calls PRESENT and that are mapped.  Pages that
 * are PRESENT but not mapped become ABSENT.  If the page tables cannot be read, PRESENT is
 * believed or, with @distrust, forgotten.  RCU read lock held.
 */
struct fln_mask fln_pagemap_confirm(int fd, struct fln_region *r, uint64_t block,
				    const struct fln_mask *pages, bool distrust);

/*
 * Set *mapped to the pages in [lo, hi) of the block at @addr that are in the page tables.
 * False: the page tables cannot be read, and *mapped is empty.
 */
bool fln_pagemap_mapped(int fd, uint64_t addr, uint32_t lo, uint32_t hi, struct fln_mask *mapped);

/* The descriptor for the calls above, or -1 if there is no /proc. */
int fln_pagemap_open(void);

/* If there is no /proc: is what the map says about so much memory to be distrusted? */
bool fln_pagemap_distrusts(uint64_t len_bytes);

#endif
