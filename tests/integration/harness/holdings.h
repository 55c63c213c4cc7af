/* SPDX-License-Identifier: MIT */
/* What the process holds: descriptors, mappings, threads. */
#ifndef FLN_TESTS_HARNESS_HOLDINGS_H
#define FLN_TESTS_HARNESS_HOLDINGS_H

#include <stdint.h>

uint32_t count_fds(void);
uint32_t count_maps(void);
uint32_t count_threads(void);
/* The same after having waited for the number to go down to @want. */
uint32_t settle_threads(uint32_t want);

#endif
