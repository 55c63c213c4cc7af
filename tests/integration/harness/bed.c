/* SPDX-License-Identifier: MIT */
/* An engine with one image, one guest and one region. */
#include "tests/integration/harness/bed.h"

#include "tests/integration/harness/host.h"
#include "tests/integration/harness/threads.h"
#include "tests/integration/harness/touch.h"
#include "tests/integration/harness/verdict.h"

#include <string.h>

void bed_init(struct bed *b, uint64_t nr_pages)
{
	memset(b, 0, sizeof(*b));
	(void)pthread_mutex_init(&b->log.lock, NULL);
	b->nr_pages = nr_pages;
	b->maker.salt = 1;
	b->maker.concurrency = FLN_SOURCE_PARALLEL;
	b->engine_opts = (struct fln_engine_opts)FLN_ENGINE_OPTS_INIT;
	b->engine_opts.flags = test_engine_flags();
	b->engine_opts.log = test_log_fn;
	b->engine_opts.log_ctx = &b->log;
	b->image_opts = (struct fln_image_opts)FLN_IMAGE_OPTS_INIT;
	b->image_opts.len_bytes = nr_pages * PAGE;
	b->guest_opts = (struct fln_guest_opts)FLN_GUEST_OPTS_INIT;
	b->guest_opts.nr_vcpus = 200;
	b->region_opts = (struct fln_region_opts)FLN_REGION_OPTS_INIT;
	b->region_opts.len_bytes = nr_pages * PAGE;
}

void bed_up_image(struct bed *b)
{
	STEP("setting up");
	if (!b->engine) {
		OK(fln_engine_create(&b->engine_opts, &b->engine));
		OK(fln_engine_start(b->engine));
	}
	if (!b->image) {
		if (!b->image_opts.source && !b->image_opts.flags) {
			maker_source(&b->maker, &b->source);
			b->image_opts.source = b->source;
		}
		OK(fln_image_create(b->engine, &b->image_opts, &b->image));
	}
}

void bed_up(struct bed *b)
{
	bed_up_image(b);
	if (!b->guest)
		OK(fln_guest_create(b->engine, &b->guest_opts, &b->guest));
	if (!b->region) {
		b->region_opts.image = b->image;
		OK(fln_region_add(b->guest, &b->region_opts, &b->region));
	}
	b->mem = fln_region_addr(b->region);
	OK(fln_guest_start(b->guest));
	STEP("set up");
}

static int until_in_time(int (*call)(void *), void *object)
{
	uint64_t t0 = now_ns();
	int rc;

	do {
		rc = call(object);
	} while ((rc == -ETIMEDOUT || rc == -EBUSY) && now_ns() - t0 < WAIT_S * 1000 * MS);
	return rc;
}

static int stop_engine(void *engine)
{
	return fln_engine_stop(engine);
}

static int destroy_image(void *image)
{
	return fln_image_destroy(image);
}

static int destroy_engine(void *engine)
{
	return fln_engine_destroy(engine);
}

int engine_stop_in_time(struct fln_engine *engine)
{
	return until_in_time(stop_engine, engine);
}

int image_destroy_in_time(struct fln_image *image)
{
	return until_in_time(destroy_image, image);
}

int engine_destroy_in_time(struct fln_engine *engine)
{
	return until_in_time(destroy_engine, engine);
}

void bed_down(struct bed *b)
{
	STEP("fln_guest_stop");
	OK(fln_guest_stop(b->guest));
	check_stats(b->guest, true, NULL);
	STEP("fln_guest_destroy");
	OK(fln_guest_destroy(b->guest));
	STEP("fln_image_destroy");
	OK(image_destroy_in_time(b->image));
	fln_source_destroy(b->source);
	STEP("fln_engine_destroy");
	OK(engine_destroy_in_time(b->engine));
	(void)pthread_mutex_destroy(&b->log.lock);
	STEP("taken down");
}

uint8_t *bed_page(const struct bed *b, uint64_t page)
{
	return b->mem + page * PAGE;
}

void settled_stats(struct fln_guest *guest, struct fln_stats *out)
{
	uint64_t end = now_ns() + WAIT_S * 1000 * MS;

	for (;;) {
		check_stats(guest, false, out);
		if (out->in_flight == 0)
			return;
		CHECK(now_ns() < end, "%llu of %llu faults have not ended, and nobody waits",
		      (unsigned long long)out->in_flight, (unsigned long long)out->faults);
		sleep_ms(1);
	}
}

void wait_held(struct bed *b, uint64_t nr, uint64_t spare_page)
{
	uint64_t t0 = now_ns();
	struct fln_stats s;

	STEP("waiting for %llu faults", (unsigned long long)nr);
	for (;; sleep_ms(1)) {
		check_stats(b->guest, false, &s);
		if (s.in_flight >= nr)
			break;
		CHECK(now_ns() - t0 < WAIT_S * 1000 * MS, "%llu faults wait, of %llu",
		      (unsigned long long)s.in_flight, (unsigned long long)nr);
	}
	/* They are counted when they are read.  This waits for the end of the worker's round. */
	OK(fln_guest_advise(b->guest, (uintptr_t)bed_page(b, spare_page), PAGE,
			    FLN_ADVICE_DONTNEED));
}

void check_stats(struct fln_guest *guest, bool stopped, struct fln_stats *out)
{
	struct fln_stats s = FLN_STATS_INIT;

	OK(fln_guest_stats(guest, &s));
	if (stopped) {
		CHECK(s.in_flight == 0, "I4: %llu faults are in flight after stop",
		      (unsigned long long)s.in_flight);
		CHECK(s.faults == s.resumed + s.poisoned + s.failed,
		      "I4: %llu faults, %llu resumed, %llu poisoned, %llu failed",
		      (unsigned long long)s.faults, (unsigned long long)s.resumed,
		      (unsigned long long)s.poisoned, (unsigned long long)s.failed);
		CHECK(s.faults == s.minor + s.major + s.zero + s.invalid,
		      "classes: %llu faults, %llu minor, %llu major, %llu zero, %llu invalid",
		      (unsigned long long)s.faults, (unsigned long long)s.minor,
		      (unsigned long long)s.major, (unsigned long long)s.zero,
		      (unsigned long long)s.invalid);
		/* Faults on one page that were held together end together: one value. */
		CHECK(s.service.count <= s.faults, "histogram: %llu of %llu faults",
		      (unsigned long long)s.service.count, (unsigned long long)s.faults);
	}
	if (out)
		*out = s;
}

struct reading {
	const struct bed *bed;
	uint32_t nr_threads;
};

static void read_part(void *arg, uint32_t index)
{
	const struct reading *r = arg;
	const struct bed *b = r->bed;
	uint64_t lo = b->nr_pages * index / r->nr_threads;
	uint64_t hi = b->nr_pages * (index + 1) / r->nr_threads;
	uint64_t nr = hi - lo, seed = index;
	uint64_t at = nr ? next_random(&seed) % nr : 0;

	/* Interleaved, so that threads share blocks: thread i has pages i, i + n, ... */
	for (uint64_t i = 0; i < nr; i++, at = at + 1 < nr ? at + 1 : 0) {
		uint64_t page = at * r->nr_threads + index;
		bool right = false;
		enum touch end;

		if (page >= b->nr_pages)
			page = lo + at;
		end = touch_page(bed_page(b, page), b->maker.salt, page, &right);
		CHECK(end == TOUCH_OK, "page %llu: the thread %s", (unsigned long long)page,
		      touch_name(end));
		CHECK(right, "page %llu: wrong contents", (unsigned long long)page);
	}
}

void read_all(const struct bed *b, uint32_t nr_threads)
{
	struct reading r = { .bed = b, .nr_threads = nr_threads };
	struct crew crew;
	bool right;

	STEP("reading all of the memory with %u threads", nr_threads);
	crew_start(&crew, nr_threads, read_part, &r);
	crew_wait(&crew, 60, "threads that read all of the memory");
	for (uint64_t page = 0; page < b->nr_pages; page++) {
		CHECK(touch_page(bed_page(b, page), b->maker.salt, page, &right) == TOUCH_OK &&
			      right,
		      "page %llu: wrong contents at the end", (unsigned long long)page);
	}
}
