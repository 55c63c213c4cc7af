/* SPDX-License-Identifier: MIT */
/*
 * A clock that stands still until it is moved, in programs that are linked with
 * -Wl,--wrap=clock_gettime: what the library decides by time is the same in every run.
 */
#ifndef FLN_TESTS_FAKE_CLOCK_H
#define FLN_TESTS_FAKE_CLOCK_H

#include <stdint.h>

/* From now on the clock shows @ns, and goes on by a little at each look; 0: the real one. */
void fake_clock_set(uint64_t ns);
void fake_clock_pass(uint64_t ns);

#endif
