/* SPDX-License-Identifier: MIT */
/* What the tests of in-context regions share. */
#ifndef FLN_TESTS_CONTEXT_BED_H
#define FLN_TESTS_CONTEXT_BED_H

#include "tests/integration/harness.h"

#include <signal.h>

#define THREADS 200u

/*
 * A bed whose region is resolved in context; its source makes contents.  @filled:
 * they are in the page cache before the first touch.
 */
static inline void context_up(struct bed *b, bool filled)
{
	b->region_opts.delivery = FLN_DELIVERY_IN_CONTEXT;
	b->guest_opts.nr_shards = b->guest_opts.nr_shards ? b->guest_opts.nr_shards : 16;
	bed_up(b);
	if (filled)
		OK(fln_image_fill(b->image, 0, b->nr_pages * PAGE));
}

/* First in main(), after test_init(). */
static inline void context_init(void)
{
	struct bed b;
	int rc;

	OK(fln_sigbus_install());
	bed_init(&b, 1);
	OK(fln_engine_create(&b.engine_opts, &b.engine));
	OK(fln_guest_create(b.engine, NULL, &b.guest));
	OK(fln_image_create(b.engine, &b.image_opts, &b.image));
	b.region_opts.image = b.image;
	b.region_opts.delivery = FLN_DELIVERY_IN_CONTEXT;
	rc = fln_region_add(b.guest, &b.region_opts, &b.region);
	if (rc == -EOPNOTSUPP)
		test_skip("%s", fln_last_error());
	OK(rc);
	bed_down(&b); /* never started */
}

/* The page is read wholly by this thread, which has entered, and is right. */
static inline void context_read(const struct bed *b, uint64_t page)
{
	bool right = false;
	enum touch end = touch_page(bed_page(b, page), b->maker.salt, page, &right);

	CHECK(end == TOUCH_OK, "page %llu: the thread %s", (unsigned long long)page,
	      touch_name(end));
	CHECK(right, "page %llu: wrong contents", (unsigned long long)page);
}

static inline void context_reader(void *arg, uint32_t index)
{
	const struct bed *b = arg;
	uint64_t nr = b->nr_pages / THREADS, seed = index + 1, at = next_random(&seed) % nr;

	OK(fln_thread_enter());
	/* All over the memory, so that threads meet in blocks. */
	for (uint64_t i = 0; i < nr; i++, at = at + 1 < nr ? at + 1 : 0)
		context_read(b, at * THREADS + index);
	fln_thread_leave();
}

/* Every page is read by one of THREADS threads, in random order; nr_pages is a multiple. */
static inline void context_read_all(struct bed *b)
{
	struct crew crew;

	STEP("reading all of the memory in context");
	crew_start(&crew, THREADS, context_reader, b);
	crew_wait(&crew, 60, "threads that read all of the memory in context");
}

#endif
