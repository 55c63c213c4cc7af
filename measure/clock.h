/* SPDX-License-Identifier: MIT */
/*
 * The clock that times touches: the time-stamp counter if it runs at a constant rate, else
 * CLOCK_MONOTONIC.
 */
#ifndef MEASURE_CLOCK_H
#define MEASURE_CLOCK_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#if defined(__x86_64__)
#include <x86intrin.h>
#endif

#ifdef __cplusplus
extern "C" {
#endif

extern bool measure_clock_is_counter;
extern double measure_clock_ns_per_tick;

/* Choose the clock and calibrate it; takes some 20 ms.  Call once, before starting threads. */
void measure_clock_init(void);

static inline uint64_t measure_now_ns(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static inline uint64_t measure_ticks(void)
{
#if defined(__x86_64__)
	if (measure_clock_is_counter)
		return __rdtsc();
#endif
	return measure_now_ns();
}

/* The counters of two processors may differ by a few ticks: clamp negative times to 0. */
static inline uint64_t measure_ticks_between_ns(uint64_t from, uint64_t to)
{
	return to > from ? (uint64_t)((double)(to - from) * measure_clock_ns_per_tick) : 0;
}

#ifdef __cplusplus
}
#endif

#endif
