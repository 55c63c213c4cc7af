/* SPDX-License-Identifier: MIT */
/*
 * What is mapped in truth, by /proc/self/pagemap.
 */
#ifndef FLN_ENGINE_PAGEMAP_H
#define FLN_ENGINE_PAGEMAP_H

#include <stdbool.h>
#include <stdint.h>

/* How the kernel is asked for that. */
bool fln_pagemap_is_empty(uint64_t addr);

#define FLN_PAGEMAP_PRESENT (UINT64_C(1) << 63)

#endif
