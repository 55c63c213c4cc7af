/* SPDX-License-Identifier: MIT */
/*
 * In-context regions that are discarded, removed and stopped while threads touch
 * them: what is filled stays readable all the time, what is not is a SIGBUS that is
 * not ours, and nobody hangs.
 */
#include "engine/events.h"
#include "engine/state/guest.h"
#include "sources/source.h"
#include "tests/integration/context_bed.h"

#include <errno.h>
#include <faultlane/base.h>
#include <faultlane/context.h>
#include <faultlane/engine.h>
#include <faultlane/event.h>
#include <faultlane/guest.h>
#include <faultlane/image.h>
#include <faultlane/stats.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define PAGES 2048u
#define NR_THREADS 8u

static struct {
	struct bed bed;
	_Atomic bool stop;
	_Atomic uint32_t nr_begun;
	_Atomic uint64_t nr_ok, nr_bus, nr_zero;
	bool discarding; /* zeros are right */
	bool half;       /* the upper half is never filled */
} life;

static void toucher_main(void *arg, uint32_t index)
{
	struct bed *b = arg;
	uint64_t seed = index + 1;

	OK(fln_thread_enter());
	atomic_fetch_add(&life.nr_begun, 1);
	while (!atomic_load(&life.stop)) {
		uint64_t page = next_random(&seed) % b->nr_pages, value = 0;
		enum touch end = touch_read(bed_page(b, page), &value);
		bool filled = !life.half || page < b->nr_pages / 2;

		if (end == TOUCH_SIGBUS || end == TOUCH_SIGSEGV) {
			CHECK(!filled, "page %llu is filled and raised a signal",
			      (unsigned long long)page);
			atomic_fetch_add(&life.nr_bus, 1);
			continue;
		}
		CHECK(end == TOUCH_OK, "page %llu: the thread %s", (unsigned long long)page,
		      touch_name(end));
		CHECK(filled, "page %llu was never filled and reads 0x%llx",
		      (unsigned long long)page, (unsigned long long)value);
		if (value == 0 && life.discarding)
			atomic_fetch_add(&life.nr_zero, 1);
		else
			CHECK(value == word_of(b->maker.salt, page, 0), "page %llu reads 0x%llx",
			      (unsigned long long)page, (unsigned long long)value);
		atomic_fetch_add(&life.nr_ok, 1);
	}
	fln_thread_leave();
}

static void begin(struct crew *crew)
{
	crew_start(crew, NR_THREADS, toucher_main, &life.bed);
	wait_count(&life.nr_begun, NR_THREADS, WAIT_S, "threads that begin");
}

static void end(struct crew *crew)
{
	atomic_store(&life.stop, true);
	crew_wait(crew, WAIT_S, "threads that touch");
}

/* The guest is stopped while threads resolve, and while threads wait for contents. */
static void stop_once(uint64_t seed)
{
	struct bed *b = &life.bed;
	struct crew crew;
	_Alignas(8) uint8_t buf[PAGE];

	memset(&life, 0, sizeof(life));
	life.half = true;
	bed_init(b, PAGES);
	b->guest_opts.window_first = b->guest_opts.window_max = seed % 2 ? 1 : 0;
	b->guest_opts.nr_shards = 4;
	OK(fln_engine_create(&b->engine_opts, &b->engine));
	OK(fln_engine_start(b->engine));
	OK(fln_image_create(b->engine, &b->image_opts, &b->image)); /* pushed */
	for (uint64_t page = 0; page < PAGES / 2; page++) {
		contents_of(b->maker.salt, page, buf);
		OK(fln_image_put(b->image, page * PAGE, buf, PAGE));
	}
	context_up(b, false);
	STEP("touching");
	begin(&crew);
	if (seed % 3 == 0)
		sleep_ms((uint32_t)(next_random(&seed) % 4));
	STEP("stopping under threads that touch");
	OK(fln_guest_stop(b->guest));
	check_stats(b->guest, true, NULL);
	sleep_ms(1);
	end(&crew);
	check_stats(b->guest, true, NULL);
	bed_down(b);
}

static void stop_with_resolvers_in_flight(void)
{
	uint64_t nr_ok = 0, nr_bus = 0;

	for (uint32_t i = 0; i < test_scale(20, 100, 1000); i++) {
		stop_once(i);
		nr_ok += life.nr_ok;
		nr_bus += life.nr_bus;
	}
	CHECK(nr_ok > 0 && nr_bus > 0, "%llu touches went through, %llu did not",
	      (unsigned long long)nr_ok, (unsigned long long)nr_bus);
	test_note("%llu touches went through, %llu raised SIGBUS", (unsigned long long)nr_ok,
		  (unsigned long long)nr_bus);
}

/* A mapping of the caller's, added and removed under threads that touch it. */
static void add_and_remove_under_touches(void)
{
	struct bed *b = &life.bed;
	struct crew crew;
	void *mem;

	memset(&life, 0, sizeof(life));
	bed_init(b, PAGES);
	b->guest_opts.nr_shards = 2;
	OK(fln_engine_create(&b->engine_opts, &b->engine));
	OK(fln_engine_start(b->engine));
	OK(fln_image_create(b->engine, &b->image_opts, &b->image));
	{
		struct fln_source *source;
		_Alignas(8) uint8_t buf[PAGE];

		maker_source(&b->maker, &source);
		b->source = source;
		for (uint64_t page = 0; page < PAGES; page++) {
			contents_of(b->maker.salt, page, buf);
			OK(fln_image_put(b->image, page * PAGE, buf, PAGE));
		}
	}
	mem = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED,
		   fln_image_memfd(b->image), 0);
	CHECK(mem != MAP_FAILED, "mmap: %s", strerror(errno));
	b->region_opts.addr = (uint64_t)(uintptr_t)mem;
	context_up(b, false);
	begin(&crew);
	for (uint32_t i = 0; i < test_scale(10, 50, 500); i++) {
		STEP("removing and adding, round %u", i);
		OK(fln_region_remove(b->region));
		OK(fln_region_add(b->guest, &b->region_opts, &b->region));
	}
	end(&crew);
	CHECK(life.nr_bus == 0, "%llu SIGBUS", (unsigned long long)life.nr_bus);
	bed_down(b);
	(void)munmap(mem, PAGES * PAGE);
}

/*
 * A part of a region is unmapped, and another guest's region is to lie there: a handler,
 * which knows an address only, could not tell them apart.
 */
static void regions_of_two_guests_do_not_overlap(void)
{
	struct bed *b = &life.bed;
	struct fln_guest *other = NULL;
	struct fln_region_opts opts;
	struct fln_region *region;
	void *mem;

	memset(&life, 0, sizeof(life));
	bed_init(b, PAGES);
	context_up(b, true);
	opts = b->region_opts;
	opts.addr = (uint64_t)(uintptr_t)fln_region_addr(b->region) + PAGES / 2 * PAGE;
	opts.len_bytes = PAGE;
	mem = (void *)(uintptr_t)opts.addr;
	CHECK(munmap(mem, PAGE) == 0, "munmap: %s", strerror(errno));
	CHECK(mmap(mem, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED_NOREPLACE,
		   fln_image_memfd(b->image), 0) == mem,
	      "mmap: %s", strerror(errno));
	OK(fln_guest_create(b->engine, NULL, &other));
	REFUSED(fln_region_add(other, &opts, &region), -EEXIST, test_hex(opts.addr));
	OK(fln_region_remove(b->region));
	OK(fln_region_add(other, &opts, &region));
	OK(fln_guest_destroy(other));
	bed_down(b);
}

static void discarder(void *arg, uint32_t index)
{
	struct bed *b = arg;
	uint64_t seed = index + 100;

	/* One of them may touch what it discards: it is a resolver too. */
	OK(fln_thread_enter());
	for (uint32_t i = 0; i < test_scale(300, 1500, 20000); i++) {
		uint64_t page = next_random(&seed) % b->nr_pages;
		uint64_t nr = 1 + next_random(&seed) % 16;
		int advice = next_random(&seed) % 4 == 0 ? MADV_REMOVE : MADV_DONTNEED;

		nr = page + nr > b->nr_pages ? b->nr_pages - page : nr;
		CHECK(madvise(bed_page(b, page), nr * PAGE, advice) == 0, "madvise: %s",
		      strerror(errno));
		if (advice == MADV_REMOVE) {
			uint64_t value = 1;

			/* Nobody writes: what was given up is zero, for good. */
			CHECK(touch_read(bed_page(b, page), &value) == TOUCH_OK && value == 0,
			      "page %llu reads 0x%llx after MADV_REMOVE", (unsigned long long)page,
			      (unsigned long long)value);
		}
	}
	fln_thread_leave();
}

static void storm_of_discards(bool filled)
{
	struct bed *b = &life.bed;
	struct crew touchers, discarders;
	struct fln_stats s;

	memset(&life, 0, sizeof(life));
	life.discarding = true;
	bed_init(b, PAGES);
	b->guest_opts.nr_shards = 2;
	b->engine_opts.fill_pages = 8;
	context_up(b, filled);
	STEP("touching what is discarded");
	begin(&touchers);
	crew_start(&discarders, 4, discarder, b);
	crew_wait(&discarders, 90, "threads that discard");
	end(&touchers);
	check_stats(b->guest, false, &s);
	CHECK(life.nr_bus == 0, "%llu SIGBUS", (unsigned long long)life.nr_bus);
	CHECK(s.events > 0 && s.in_context > 0, "%llu events", (unsigned long long)s.events);
	CHECK(life.nr_zero > 0, "no zero was read");
	bed_down(b);
}

static void discards_of_filled_pages(void)
{
	storm_of_discards(true);
}

static void discards_of_pages_that_come(void)
{
	storm_of_discards(false);
}

/*
 * More blocks than there are chunks: those of whole blocks come back, by the worker,
 * and new ones have windows again.
 */
static void chunks_come_back(void)
{
	struct fln_stats before, after;
	uint64_t until;
	struct bed b;

	bed_init(&b, 512 * 100);
	b.region_opts.max_chunks = 8;
	b.guest_opts.nr_shards = 1;
	context_up(&b, true);
	OK(fln_thread_enter());
	STEP("reading more blocks than there are chunks");
	for (uint64_t page = 0; page < b.nr_pages; page++)
		context_read(&b, page);
	STEP("waiting for a block to have a chunk");
	until = now_ns() + WAIT_S * 1000 * MS;
	do {
		CHECK(now_ns() < until, "blocks have no chunk after %u s", WAIT_S);
		sleep_ms(10);
		CHECK(madvise(bed_page(&b, 512 * 50), BLOCK, MADV_DONTNEED) == 0, "madvise: %s",
		      strerror(errno));
		check_stats(b.guest, false, &before);
		context_read(&b, 512 * 50 + 77);
		check_stats(b.guest, false, &after);
	} while (after.no_chunk != before.no_chunk);
	fln_thread_leave();
	bed_down(&b);
}

/* With chunks for all, too, the map of what is whole costs next to nothing. */
static void whole_blocks_cost_nothing(void)
{
	struct fln_stats s = FLN_STATS_INIT;
	uint64_t until;
	struct bed b;

	bed_init(&b, 512 * 200);
	b.guest_opts.nr_shards = 1;
	context_up(&b, true);
	OK(fln_thread_enter());
	STEP("reading 200 blocks");
	for (uint64_t page = 0; page < b.nr_pages; page++)
		context_read(&b, page);
	fln_thread_leave();
	STEP("waiting for chunks to be given back");
	until = now_ns() + WAIT_S * 1000 * MS;
	do {
		CHECK(now_ns() < until, "the map has %llu bytes after %u s",
		      (unsigned long long)s.map_bytes, WAIT_S);
		sleep_ms(10);
		check_stats(b.guest, false, &s);
	} while (s.map_bytes > 64 * 512 + 200 * 8); /* half of 200 chunks would be 35 KB */
	bed_down(&b);
}

/* Though blocks are few, and nobody has had a reason to wake a worker. */
static void that_all_is_mapped_is_told(void)
{
	struct fln_event event = FLN_EVENT_INIT;
	struct bed b;

	bed_init(&b, 512 * 4 + 7);
	b.guest_opts.nr_shards = 2;
	context_up(&b, true);
	OK(fln_thread_enter());
	for (uint64_t page = 0; page < b.nr_pages; page++)
		context_read(&b, page);
	fln_thread_leave();
	STEP("waiting to be told that all is mapped");
	do {
		struct pollfd p = { .fd = fln_engine_event_fd(b.engine), .events = POLLIN };

		CHECK(poll(&p, 1, WAIT_S * 1000) == 1, "no event in %u s", WAIT_S);
		CHECK(fln_engine_next_event(b.engine, &event) >= 0, "%s", fln_last_error());
	} while (event.kind != FLN_EVENT_GUEST_WHOLE);
	CHECK(event.guest == b.guest, "of another guest");
	bed_down(&b);
}

int main(void)
{
	test_init();
	context_init();
	RUN(stop_with_resolvers_in_flight);
	RUN(add_and_remove_under_touches);
	RUN(regions_of_two_guests_do_not_overlap);
	RUN(discards_of_filled_pages);
	RUN(discards_of_pages_that_come);
	RUN(chunks_come_back);
	RUN(whole_blocks_cost_nothing);
	RUN(that_all_is_mapped_is_told);
	return 0;
}
