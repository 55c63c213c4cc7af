/* SPDX-License-Identifier: MIT */
/*
 * The page tables of this process, by /proc/self/pagemap.
 *
 * Async-signal-safe.
 */
#ifndef FLN_ENGINE_PAGEMAP_H
#define FLN_ENGINE_PAGEMAP_H

#include <stdbool.h>
#include <stdint.h>

/* Has the page at @addr neither memory nor swap?  False also if that is unknown. */
bool fln_pagemap_is_empty(uint64_t addr);

#define FLN_PAGEMAP_PRESENT (UINT64_C(1) << 63)

#endif
