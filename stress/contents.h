/* SPDX-License-Identifier: MIT */
/*
 * The contents of pages: computed from numbers, so that nothing has to be stored to verify
 * them.
 *
 * Every word of a page is different, and depends on the page and its version.  So another
 * page, an older version of the same page, and a mixture are all recognized as wrong.
 */
#ifndef STRESS_CONTENTS_H
#define STRESS_CONTENTS_H

#include <stdbool.h>
#include <stdint.h>

#define PAGE_BYTES 4096u
#define PAGE_WORDS (PAGE_BYTES / 8u)

/* The step of splitmix64: a hash of @x. */
static inline uint64_t mix(uint64_t x)
{
	x += UINT64_C(0x9e3779b97f4a7c15);
	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	return x ^ (x >> 31);
}

/* A thread's own random numbers. */
struct rng {
	uint64_t state;
};

static inline uint64_t rng_next(struct rng *r)
{
	r->state += UINT64_C(0x9e3779b97f4a7c15);
	return mix(r->state);
}

/* Below @n, which is not 0. */
static inline uint64_t rng_below(struct rng *r, uint64_t n)
{
	return rng_next(r) % n;
}

/* The first word of version @version of a page; version 0 is the image's. */
static inline uint64_t page_stamp(uint64_t seed, uint64_t page, uint64_t version)
{
	/* Odd, and so never 0: no word of a stamped page looks like one of a zero page. */
	return mix(seed ^ mix(page ^ mix(version))) | 1;
}

static inline uint64_t stamp_word(uint64_t stamp, uint32_t i)
{
	return stamp + (uint64_t)i * 2;
}

/* One in eight runs of 16 pages of the image is a hole. */
static inline bool page_is_hole(uint64_t seed, uint64_t page)
{
	return (mix(seed ^ (page / 16)) & 7) == 0;
}

static inline void page_write(uint64_t *words, uint64_t stamp)
{
	for (uint32_t i = 0; i < PAGE_WORDS; i++)
		words[i] = stamp_word(stamp, i);
}

#endif
