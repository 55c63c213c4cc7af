/* SPDX-License-Identifier: MIT */
/* An engine with one image, one guest and one region, for tests to lie in. */
#ifndef FLN_TESTS_HARNESS_BED_H
#define FLN_TESTS_HARNESS_BED_H

#include "tests/integration/harness/log.h"
#include "tests/integration/harness/maker.h"

#include <faultlane/faultlane.h>
#include <stdbool.h>
#include <stdint.h>

/*
 * An engine with one image, one guest and one region.  bed_init() sets options
 * that can be changed before bed_up(); what is set already is not made.
 */
struct bed {
	uint64_t nr_pages;
	struct test_log log;
	struct maker maker;
	struct fln_engine_opts engine_opts;
	struct fln_image_opts image_opts;
	struct fln_guest_opts guest_opts;
	struct fln_region_opts region_opts;
	struct fln_source *source;
	struct fln_engine *engine;
	struct fln_image *image;
	struct fln_guest *guest;
	struct fln_region *region;
	uint8_t *mem;
};

void bed_init(struct bed *b, uint64_t nr_pages);
/* The engine and the image only; bed_up() goes on from there. */
void bed_up_image(struct bed *b);
void bed_up(struct bed *b);
/* Stops, checks I4, and destroys everything that is left. */
void bed_down(struct bed *b);
uint8_t *bed_page(const struct bed *b, uint64_t page);

/*
 * The calls of these names.  A thread that has no processor for as long as the source may
 * take has not come back either: on a machine that is full, one call more does it.
 */
int engine_stop_in_time(struct fln_engine *engine);
int image_destroy_in_time(struct fln_image *image);
int engine_destroy_in_time(struct fln_engine *engine);

/* faults = resumed + poisoned + failed (+ in flight, 0 when @stopped), and the classes add up. */
void check_stats(struct fln_guest *guest, bool stopped, struct fln_stats *out);

/*
 * The same of a guest that runs and in which nobody touches anything now.  A thread goes on
 * when its page is mapped, and what that took is counted after: waits until all of it is.
 */
void settled_stats(struct fln_guest *guest, struct fln_stats *out);

/*
 * Waits until @nr faults have been read, and those in the block of @spare_page are held by
 * their worker.  Of that page DONTNEED is said, so nobody waits for it.
 */
void wait_held(struct bed *b, uint64_t nr, uint64_t spare_page);

/* Whole guest read by @nr_threads in random order; every page verified. */
void read_all(const struct bed *b, uint32_t nr_threads);

#endif
