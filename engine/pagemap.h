/* SPDX-License-Identifier: MIT */
/*
 * What is mapped in truth, by /proc/self/pagemap.
 */
#ifndef FLN_ENGINE_PAGEMAP_H
#define FLN_ENGINE_PAGEMAP_H

#include "base/page.h"

#include <stdbool.h>
#include <stdint.h>

struct fln_guest;
struct fln_region;

/* For the calls below; -1 where there is no /proc. */
int fln_pagemap_open(void);

/* Without /proc, is what the map says of so much memory forgotten, not believed? */
bool fln_pagemap_distrusts(uint64_t len_bytes);

/*
 * Which of @pages of a block the map calls PRESENT and are; it forgets the others.
 * RCU read lock held.
 */
struct fln_mask fln_pagemap_confirm(int fd, struct fln_region *r, uint64_t block,
				    const struct fln_mask *pages, bool distrust);

/* The same for [addr, end).  Returns how many pages are not mapped, as far as can be known. */
uint64_t fln_pagemap_verify(struct fln_guest *guest, int fd, uint64_t addr, uint64_t end);

/* How the kernel is asked for that. */
bool fln_pagemap_is_empty(uint64_t addr);

#endif
