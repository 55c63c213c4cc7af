/* SPDX-License-Identifier: MIT */
/*
 * Stop and destroy with faults in flight, again and again: every thread ends
 * with contents or a signal, and none reads zero where contents are due.
 */
#include "tests/integration/harness.h"
#include "tests/integration/place.h"

#include <stdlib.h>

#define NR_THREADS 200u

enum ending {
	BY_STOP,
	BY_DESTROY,
	BY_REMOVE,
	BY_ENGINE,
	NR_ENDINGS
};

struct round {
	struct bed bed;
	enum ending ending;
	_Atomic uint32_t nr_ok, nr_sigbus, nr_sigsegv;
};

static void touch_until_signal(void *arg, uint32_t index)
{
	struct round *r = arg;
	struct bed *b = &r->bed;
	uint64_t random = index + 1, value;

	/* Pages of its own kind, so that there are always some that nobody has filled. */
	for (uint32_t i = 0; i < 400; i++) {
		uint64_t page = next_random(&random) % b->nr_pages;
		enum touch end = touch_read(bed_page(b, page) + 8 * (index % 512), &value);

		if (end == TOUCH_OK) {
			bool right = value == word_of(1, page, index % 512);

			CHECK(right, "page %llu reads 0x%llx", (unsigned long long)page,
			      (unsigned long long)value);
			atomic_fetch_add(&r->nr_ok, 1);
			continue;
		}
		atomic_fetch_add(end == TOUCH_SIGBUS ? &r->nr_sigbus : &r->nr_sigsegv, 1);
		/* Where the region is unmapped; a stop leaves a mapping that raises SIGBUS. */
		if (end == TOUCH_SIGSEGV) {
			CHECK(r->ending == BY_REMOVE || r->ending == BY_DESTROY,
			      "page %llu: SIGSEGV", (unsigned long long)page);
			return;
		}
		if (r->ending != BY_STOP)
			return;
	}
}

static void one_round(enum ending ending, uint32_t number)
{
	uint64_t seed = number, filled;
	struct round r;
	struct crew crew;
	struct bed *b = &r.bed;

	memset(&r, 0, sizeof(r));
	r.ending = ending;
	bed_init(b, 20000);
	b->engine_opts.fill_pages = 4;
	b->maker.delay_ns = number % 3 ? MS / 4 : 0;
	b->maker.concurrency = number % 2 ? FLN_SOURCE_SERIAL : FLN_SOURCE_PARALLEL;
	bed_up(b);
	place_keep(bed_page(b, 0), b->nr_pages * PAGE);
	STEP("round %u: 200 threads touch", number);
	crew_start(&crew, NR_THREADS, touch_until_signal, &r);
	sleep_ms((uint32_t)(next_random(&seed) % 12));
	if (number % 5 == 4)
		atomic_store(&b->maker.gate_closed, true);
	STEP("round %u: ending %d", number, ending);
	switch (ending) {
	case BY_STOP:
		OK(fln_guest_stop(b->guest));
		break;
	case BY_DESTROY:
		OK(fln_guest_destroy(b->guest));
		b->guest = NULL;
		break;
	case BY_REMOVE:
		OK(fln_region_remove(b->region));
		break;
	case BY_ENGINE:
	default:
		atomic_store(&b->maker.gate_closed, false);
		OK(fln_engine_stop(b->engine));
		break;
	}
	crew_wait(&crew, 30, "threads whose guest was ended under them");
	atomic_store(&b->maker.gate_closed, false);
	filled = fln_image_filled_bytes(b->image);
	if (number % 10 == 0)
		test_note(
			"round %u: %u touches went through, %u SIGBUS, %u SIGSEGV, %llu pages filled",
			number, atomic_load(&r.nr_ok), atomic_load(&r.nr_sigbus),
			atomic_load(&r.nr_sigsegv), (unsigned long long)(filled / PAGE));
	if (b->guest)
		check_stats(b->guest, ending != BY_REMOVE, NULL);
	STEP("round %u: taking down", number);
	OK(fln_guest_destroy(b->guest));
	place_give_back();
	OK(fln_image_destroy(b->image));
	fln_source_destroy(b->source);
	OK(fln_engine_destroy(b->engine));
}

static void faults_in_flight(void)
{
	uint32_t nr = test_scale(12, 100, 1000);

	for (uint32_t i = 0; i < nr; i++)
		one_round((enum ending)(i % NR_ENDINGS), i);
}

/* What was filled stays readable and writable after a stop; what was not is SIGBUS, for good. */
static void after_the_stop(void)
{
	uint64_t value;
	bool right;
	struct bed b;

	bed_init(&b, 3000);
	bed_up(&b);
	OK(fln_image_fill(b.image, 1000 * PAGE, 1000 * PAGE));
	/* Mapped, filled and not mapped, discarded, never filled. */
	CHECK(touch_read(bed_page(&b, 1001), &value) == TOUCH_OK, "page 1001");
	OK(fln_image_discard(b.image, 2500 * PAGE, PAGE));
	STEP("fln_guest_stop");
	OK(fln_guest_stop(b.guest));
	for (uint32_t pass = 0; pass < 2; pass++) {
		for (uint64_t page = 0; page < 3000; page++) {
			enum touch end = touch_page(bed_page(&b, page), 1, page, &right);

			if (page >= 1000 && page < 2000)
				CHECK(end == TOUCH_OK && right, "filled page %llu: the thread %s",
				      (unsigned long long)page, touch_name(end));
			else if (page != 2500)
				CHECK(end == TOUCH_SIGBUS, "unfilled page %llu: the thread %s",
				      (unsigned long long)page, touch_name(end));
		}
		CHECK(touch_read(bed_page(&b, 2500), &value) == TOUCH_OK && value == 0,
		      "a discarded page reads 0x%llx", (unsigned long long)value);
	}
	CHECK(touch_write(bed_page(&b, 1700), 17) == TOUCH_OK, "write");
	CHECK(touch_read(bed_page(&b, 1700), &value) == TOUCH_OK && value == 17, "own write");
	/* The image goes on: another guest gets what this one did not. */
	OK(fln_guest_destroy(b.guest));
	OK(fln_guest_create(b.engine, &b.guest_opts, &b.guest));
	OK(fln_region_add(b.guest, &b.region_opts, &b.region));
	bed_up(&b);
	CHECK(touch_read(bed_page(&b, 1700), &value) == TOUCH_OK && value == 17, "own write");
	CHECK(touch_read(bed_page(&b, 10), &value) == TOUCH_OK && value == word_of(1, 10, 0),
	      "page 10");
	CHECK(touch_read(bed_page(&b, 2500), &value) == TOUCH_OK && value == 0,
	      "a discarded page reads 0x%llx", (unsigned long long)value);
	bed_down(&b);
}

/*
 * A guest that was never started: nobody reads its events, so its waiters may get SIGSEGV, and calls
 * that wait for events return.  Afterwards it is SIGBUS as ever.
 */
static void never_started(void)
{
	struct toucher t[4];
	uint64_t value;
	struct bed b;

	bed_init(&b, 3000);
	bed_up_image(&b);
	OK(fln_guest_create(b.engine, &b.guest_opts, &b.guest));
	b.region_opts.image = b.image;
	OK(fln_region_add(b.guest, &b.region_opts, &b.region));
	for (uint32_t i = 0; i < 4; i++)
		toucher_read(&t[i], (uint8_t *)fln_region_addr(b.region) + i * 700 * PAGE);
	toucher_expect_asleep(&t[0], 30, "a guest that was not started");
	STEP("fln_guest_destroy of a guest that was not started");
	OK(fln_guest_stop(b.guest));
	for (uint32_t i = 0; i < 4; i++) {
		enum touch end = toucher_wait(&t[i], "a guest that is stopped before its start");

		CHECK(end == TOUCH_SIGSEGV || end == TOUCH_SIGBUS, "the thread %s",
		      touch_name(end));
	}
	for (uint64_t page = 0; page < b.nr_pages; page += 61)
		CHECK(touch_read((uint8_t *)fln_region_addr(b.region) + page * PAGE, &value) ==
			      TOUCH_SIGBUS,
		      "page %llu after the stop", (unsigned long long)page);
	bed_down(&b);
}

/* A source that hangs does not hold up a stop. */
static void while_a_source_hangs(void)
{
	struct toucher t[8];
	struct bed b;
	uint64_t t0;

	bed_init(&b, 3000);
	atomic_store(&b.maker.gate_closed, true);
	bed_up(&b);
	for (uint32_t i = 0; i < 8; i++)
		toucher_read(&t[i], bed_page(&b, i * 300));
	toucher_expect_asleep(&t[0], 30, "the source hangs");
	STEP("fln_guest_stop while a source hangs");
	t0 = now_ns();
	OK(fln_guest_stop(b.guest));
	t0 = now_ns() - t0;
	/* Until the gate opens, which is after that, if it did hold it up. */
	CHECK(t0 < 10000 * MS, "it took %llu ms", (unsigned long long)(t0 / MS));
	for (uint32_t i = 0; i < 8; i++)
		toucher_expect(&t[i], TOUCH_SIGBUS, "a stop while the source hangs");
	atomic_store(&b.maker.gate_closed, false);
	bed_down(&b);
}

int main(void)
{
	test_init();
	RUN(after_the_stop);
	RUN(never_started);
	RUN(while_a_source_hangs);
	RUN(faults_in_flight);
	return 0;
}
