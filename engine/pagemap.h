/* SPDX-License-Identifier: MIT */
/*
 * What is mapped in truth, by /proc/self/pagemap.
 */
#ifndef FLN_ENGINE_PAGEMAP_H
#define FLN_ENGINE_PAGEMAP_H

#include <stdbool.h>
#include <stdint.h>

struct fln_guest;

/*
 * Make the map forget pages of [addr, end) that it calls PRESENT and that
 * are not.  Returns how many pages are not mapped, as far as can be known.
 */
uint64_t fln_pagemap_verify(struct fln_guest *guest, uint64_t addr, uint64_t end);

/* How the kernel is asked for that. */
bool fln_pagemap_is_empty(uint64_t addr);

#endif
