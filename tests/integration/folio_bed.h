/* SPDX-License-Identifier: MIT */
/* What tests of images in large folios share: the contents that are due, and threads that read them. */
#ifndef FLN_TESTS_FOLIO_BED_H
#define FLN_TESTS_FOLIO_BED_H

#include "tests/integration/harness.h"

#define NR_BLOCKS 12u
#define NR_PAGES (NR_BLOCKS * 512u + 100u) /* the last ones are no block */

static inline struct fln_memory_stats memory_of(const struct bed *b)
{
	struct fln_memory_stats s = FLN_MEMORY_STATS_INIT;

	OK(fln_image_memory_stats(b->image, &s));
	return s;
}

static inline uint64_t due(const struct bed *b, uint64_t page)
{
	uint32_t every = b->maker.every_zero;

	return every && page % every == every - 1 ? 0 : word_of(b->maker.salt, page, 0);
}

static inline void expect(const struct bed *b, uint64_t page, uint64_t want)
{
	uint64_t value = ~want;

	CHECK(touch_read(bed_page(b, page), &value) == TOUCH_OK && value == want,
	      "page %llu reads 0x%llx, and 0x%llx is due", (unsigned long long)page,
	      (unsigned long long)value, (unsigned long long)want);
}

static inline void expect_all(const struct bed *b)
{
	for (uint64_t page = 0; page < b->nr_pages; page++)
		expect(b, page, due(b, page));
}

struct part {
	struct bed *b;
	uint32_t nr;
};

static inline void touch_part(void *arg, uint32_t index)
{
	struct part *p = arg;
	uint64_t seed = index + 1;

	for (uint32_t i = 0; i < 3000; i++) {
		uint64_t page = next_random(&seed) % p->b->nr_pages;

		expect(p->b, page, due(p->b, page));
	}
}

static inline void touch_by_threads(struct bed *b)
{
	struct part p = { b, 8 };
	struct crew crew;

	STEP("reading at random with 8 threads");
	crew_start(&crew, p.nr, touch_part, &p);
	crew_wait(&crew, 60, "threads that read at random");
}

#endif
