/* SPDX-License-Identifier: MIT */
/*
 * What the map of a region calls PRESENT, confirmed by the page tables.
 */
#ifndef FLN_ENGINE_CONFIRM_H
#define FLN_ENGINE_CONFIRM_H

#include "base/page.h"

#include <stdbool.h>
#include <stdint.h>

struct fln_region;

/*
 * Which of @pages of a block the map calls PRESENT and are; it forgets the others.
 * RCU read lock held.
 */
struct fln_mask fln_pagemap_confirm(int fd, struct fln_region *r, uint64_t block,
				    const struct fln_mask *pages, bool distrust);

/*
 * Which pages [lo, hi) of the block at @addr have a page table entry.  False: cannot tell,
 * and none have.
 */
bool fln_pagemap_mapped(int fd, uint64_t addr, uint32_t lo, uint32_t hi, struct fln_mask *mapped);

/* For the calls here; -1 where there is no /proc. */
int fln_pagemap_open(void);

/* Without /proc, is what the map says of so much memory forgotten, not believed? */
bool fln_pagemap_distrusts(uint64_t len_bytes);

#endif
