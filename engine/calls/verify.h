/* SPDX-License-Identifier: MIT */
/*
 * Pages that the map calls PRESENT, compared with the page tables.
 */
#ifndef FLN_ENGINE_CALLS_VERIFY_H
#define FLN_ENGINE_CALLS_VERIFY_H

#include <stdbool.h>
#include <stdint.h>

struct fln_guest;

/* The same for [addr, end).  Returns how many pages are not mapped, as far as can be known. */
uint64_t fln_pagemap_verify(struct fln_guest *guest, int fd, uint64_t addr, uint64_t end);

#endif
