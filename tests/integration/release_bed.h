/* SPDX-License-Identifier: MIT */
/* What the tests of releases share: a bed, its contents, and what its maps and events say. */
#ifndef FLN_TESTS_RELEASE_BED_H
#define FLN_TESTS_RELEASE_BED_H

#include "tests/integration/harness.h"

#define NR_BLOCKS 24u
#define NR_PAGES (NR_BLOCKS * 512u)
#define LEN (NR_PAGES * PAGE)

static struct bed bed;

/* Mappings within the bed's memory. */
static inline uint32_t nr_mappings(void)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	unsigned long lo, hi;
	char line[512];
	uint32_t nr = 0;

	CHECK(maps, "/proc/self/maps: %s", strerror(errno));
	while (fgets(line, sizeof(line), maps)) {
		if (sscanf(line, "%lx-%lx", &lo, &hi) == 2 &&
		    lo < (uintptr_t)bed.mem + bed.nr_pages * PAGE && hi > (uintptr_t)bed.mem)
			nr++;
	}
	(void)fclose(maps);
	return nr;
}

static inline struct fln_release_report release(void)
{
	struct fln_release_report r = FLN_RELEASE_REPORT_INIT;

	STEP("fln_guest_release()");
	OK(fln_guest_release(bed.guest, &r));
	return r;
}

static inline void fill(uint64_t page, uint64_t nr)
{
	STEP("filling %llu pages", (unsigned long long)nr);
	OK(fln_image_fill(bed.image, page * PAGE, nr * PAGE));
}

static inline struct fln_stats stats(void)
{
	struct fln_stats s = FLN_STATS_INIT;

	OK(fln_guest_stats(bed.guest, &s));
	return s;
}

/* The event of the bed's guest, in time. */
static inline bool take_event(uint32_t kind, uint32_t ms)
{
	for (uint64_t t0 = now_ns(); now_ns() - t0 < ms * MS; sleep_ms(1)) {
		struct fln_event e = FLN_EVENT_INIT;

		while (fln_engine_next_event(bed.engine, &e) == 1) {
			if (e.kind == kind && e.guest == bed.guest)
				return true;
		}
	}
	return false;
}

static inline void expect_event(uint32_t kind)
{
	STEP("waiting for event %u", kind);
	CHECK(take_event(kind, WAIT_S * 1000), "event %u has not come in %u s", kind, WAIT_S);
}

static inline void expect_page(uint64_t page, uint64_t want, const char *what)
{
	struct toucher t;

	toucher_read(&t, bed_page(&bed, page));
	toucher_expect_value(&t, want, what);
}

static inline uint64_t due(uint64_t page)
{
	return word_of(1, page, 0);
}

static inline void wait_released(uint64_t bytes)
{
	STEP("until %llu bytes are released", (unsigned long long)bytes);
	for (uint64_t t0 = now_ns(); stats().released_bytes < bytes; sleep_ms(1))
		CHECK(now_ns() - t0 < WAIT_S * 1000 * MS, "%llu of %llu bytes are released",
		      (unsigned long long)stats().released_bytes, (unsigned long long)bytes);
}

#endif
