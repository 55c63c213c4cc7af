/* SPDX-License-Identifier: MIT */
/*
 * Pages, blocks and masks, and all conversions between bytes and pages.
 *
 * A page has 4 KiB.  A block has 2 MiB, the range of one page table; it is the unit of
 * the page-state map, and windows never cross it.
 */
#ifndef FLN_BASE_PAGE_H
#define FLN_BASE_PAGE_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define FLN_PAGE_SHIFT 12u
#define FLN_PAGE_BYTES (UINT64_C(1) << FLN_PAGE_SHIFT)
#define FLN_BLOCK_SHIFT 21u
#define FLN_BLOCK_BYTES (UINT64_C(1) << FLN_BLOCK_SHIFT)
#define FLN_BLOCK_PAGES 512u
#define FLN_MASK_WORDS (FLN_BLOCK_PAGES / 64u)

static inline uint64_t fln_bytes_to_pages(uint64_t bytes)
{
	return bytes >> FLN_PAGE_SHIFT;
}

static inline uint64_t fln_pages_to_bytes(uint64_t pages)
{
	return pages << FLN_PAGE_SHIFT;
}

static inline bool fln_is_aligned(uint64_t value, uint64_t to)
{
	return (value & (to - 1)) == 0;
}

static inline uint64_t fln_align_down(uint64_t value, uint64_t to)
{
	return value & ~(to - 1);
}

static inline uint64_t fln_align_up(uint64_t value, uint64_t to)
{
	return (value + to - 1) & ~(to - 1);
}

/* The end of the block that contains an address, at most @end. */
static inline uint64_t fln_block_end(uint64_t addr, uint64_t end)
{
	uint64_t stop = fln_align_down(addr, FLN_BLOCK_BYTES) + FLN_BLOCK_BYTES;

	return stop < end ? stop : end;
}

/* The same in page numbers. */
static inline uint64_t fln_block_end_page(uint64_t page, uint64_t end)
{
	uint64_t stop = fln_align_down(page, FLN_BLOCK_PAGES) + FLN_BLOCK_PAGES;

	return stop < end ? stop : end;
}

static inline bool fln_is_pow2(uint64_t value)
{
	return value != 0 && (value & (value - 1)) == 0;
}

/* One bit per page of a block. */
struct fln_mask {
	uint64_t w[FLN_MASK_WORDS];
};

/* Bits [lo, hi) of a word; 0 <= lo < hi <= 64. */
static inline uint64_t fln_bits(uint32_t lo, uint32_t hi)
{
	FLN_DEBUG_ASSERT(lo < hi && hi <= 64);
	return (UINT64_MAX >> (64 - (hi - lo))) << lo;
}

static inline void fln_mask_set(struct fln_mask *m, uint32_t bit)
{
	m->w[bit / 64] |= UINT64_C(1) << (bit % 64);
}

static inline void fln_mask_clear(struct fln_mask *m, uint32_t bit)
{
	m->w[bit / 64] &= ~(UINT64_C(1) << (bit % 64));
}

static inline bool fln_mask_test(const struct fln_mask *m, uint32_t bit)
{
	return (m->w[bit / 64] >> (bit % 64)) & 1;
}

static inline void fln_mask_set_range(struct fln_mask *m, uint32_t lo, uint32_t hi)
{
	FLN_DEBUG_ASSERT(lo <= hi && hi <= FLN_BLOCK_PAGES);
	while (lo < hi) {
		uint32_t base = lo & ~63u;
		uint32_t end = hi < base + 64 ? hi : base + 64;

		m->w[lo / 64] |= fln_bits(lo - base, end - base);
		lo = end;
	}
}

static inline struct fln_mask fln_mask_range(uint32_t lo, uint32_t hi)
{
	struct fln_mask m = { { 0 } };

	fln_mask_set_range(&m, lo, hi);
	return m;
}

static inline bool fln_mask_empty(const struct fln_mask *m)
{
	uint64_t any = 0;

	for (uint32_t i = 0; i < FLN_MASK_WORDS; i++)
		any |= m->w[i];
	return any == 0;
}

static inline uint32_t fln_mask_count(const struct fln_mask *m)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < FLN_MASK_WORDS; i++)
		n += (uint32_t)__builtin_popcountll(m->w[i]);
	return n;
}

static inline struct fln_mask fln_mask_and(const struct fln_mask *a, const struct fln_mask *b)
{
	struct fln_mask m;

	for (uint32_t i = 0; i < FLN_MASK_WORDS; i++)
		m.w[i] = a->w[i] & b->w[i];
	return m;
}

static inline struct fln_mask fln_mask_or(const struct fln_mask *a, const struct fln_mask *b)
{
	struct fln_mask m;

	for (uint32_t i = 0; i < FLN_MASK_WORDS; i++)
		m.w[i] = a->w[i] | b->w[i];
	return m;
}

static inline struct fln_mask fln_mask_andnot(const struct fln_mask *a, const struct fln_mask *b)
{
	struct fln_mask m;

	for (uint32_t i = 0; i < FLN_MASK_WORDS; i++)
		m.w[i] = a->w[i] & ~b->w[i];
	return m;
}

/* The first set bit at or after @from, or FLN_BLOCK_PAGES. */
static inline uint32_t fln_mask_next_set(const struct fln_mask *m, uint32_t from)
{
	while (from < FLN_BLOCK_PAGES) {
		uint64_t rest = m->w[from / 64] >> (from % 64);

		if (rest)
			return from + (uint32_t)__builtin_ctzll(rest);
		from = (from | 63u) + 1;
	}
	return FLN_BLOCK_PAGES;
}

/* The first clear bit at or after @from, or FLN_BLOCK_PAGES. */
static inline uint32_t fln_mask_next_clear(const struct fln_mask *m, uint32_t from)
{
	while (from < FLN_BLOCK_PAGES) {
		uint64_t rest = ~m->w[from / 64] >> (from % 64);

		if (rest)
			return from + (uint32_t)__builtin_ctzll(rest);
		from = (from | 63u) + 1;
	}
	return FLN_BLOCK_PAGES;
}

/*
 * Find the next run of set bits at or after *lo: [*lo, *hi).  False when none is left.
 * To visit all: for (lo = 0; fln_mask_next_run(m, &lo, &hi); lo = hi) …
 */
static inline bool fln_mask_next_run(const struct fln_mask *m, uint32_t *lo, uint32_t *hi)
{
	*lo = fln_mask_next_set(m, *lo);
	if (*lo == FLN_BLOCK_PAGES)
		return false;
	*hi = fln_mask_next_clear(m, *lo);
	return true;
}

/* Shift a mask towards higher pages; bits beyond the block are dropped. */
static inline struct fln_mask fln_mask_up(const struct fln_mask *m, uint32_t by)
{
	struct fln_mask out = { { 0 } };
	uint32_t lo = 0, hi;

	if (by == 0)
		return *m;
	for (; fln_mask_next_run(m, &lo, &hi) && lo + by < FLN_BLOCK_PAGES; lo = hi)
		fln_mask_set_range(&out, lo + by,
				   hi + by < FLN_BLOCK_PAGES ? hi + by : FLN_BLOCK_PAGES);
	return out;
}

#endif
