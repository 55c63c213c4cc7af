/* SPDX-License-Identifier: MIT */
/*
 * Comparing the pages that a guest's map calls PRESENT with the page tables.  Runs on the caller's
 * thread; blocks only for reading /proc/self/pagemap.
 */
#ifndef FLN_ENGINE_CALLS_VERIFY_H
#define FLN_ENGINE_CALLS_VERIFY_H

#include <stdbool.h>
#include <stdint.h>

struct fln_guest;

/*
 * How many pages of [addr, end) are not mapped?  Pages that turn out to be unmapped are forgotten
 * in the map (fln_pagemap_confirm()).  @fd: /proc/self/pagemap, or -1: then the map is believed.
 */
uint64_t fln_pagemap_verify(struct fln_guest *guest, int fd, uint64_t addr, uint64_t end);

#endif
