/* SPDX-License-Identifier: MIT */
/*
 * Private regions: guests of one image whose writes and discards are their own,
 * while the image is filled, and after the end.
 */
#include "tests/integration/harness.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#define NR_PAGES 1600u
#define LEN (NR_PAGES * PAGE)
#define NR_GUESTS 3u

/* The bed has the engine, the image and the first guest; here are the others. */
static struct bed bed;
static struct fln_guest *guests[NR_GUESTS];
static struct fln_region *regions[NR_GUESTS];
static uint8_t *mem[NR_GUESTS];

static void add_guest(uint32_t i, uint32_t sharing)
{
	struct fln_region_opts o = bed.region_opts;

	OK(fln_guest_create(bed.engine, &bed.guest_opts, &guests[i]));
	o.image = bed.image;
	o.sharing = sharing;
	OK(fln_region_add(guests[i], &o, &regions[i]));
	OK(fln_guest_start(guests[i]));
	mem[i] = fln_region_addr(regions[i]);
}

static void begin(enum fln_discard discard)
{
	bed_init(&bed, NR_PAGES);
	bed.region_opts.sharing = FLN_SHARING_PRIVATE;
	bed.region_opts.discard = discard;
}

/* The bed's guest, and more of them. */
static void up(void)
{
	bed_up(&bed);
	guests[0] = bed.guest;
	regions[0] = bed.region;
	mem[0] = bed.mem;
	for (uint32_t i = 1; i < NR_GUESTS; i++)
		add_guest(i, FLN_SHARING_PRIVATE);
}

static void down(void)
{
	for (uint32_t i = 1; i < NR_GUESTS; i++) {
		STEP("the end of guest %u", i);
		OK(fln_guest_stop(guests[i]));
		check_stats(guests[i], true, NULL);
		OK(fln_guest_destroy(guests[i]));
	}
	bed_down(&bed);
}

static void expect(uint32_t guest, uint64_t page, uint64_t want, const char *what)
{
	struct toucher t;

	toucher_read(&t, mem[guest] + page * PAGE);
	toucher_expect_value(&t, want, what);
}

static void write_to(uint32_t guest, uint64_t page, uint64_t value)
{
	struct toucher t;

	toucher_write(&t, mem[guest] + page * PAGE, value);
	toucher_expect(&t, TOUCH_OK, "a write");
}

static void expect_image(uint64_t page, uint64_t want, const char *what)
{
	uint64_t value = 0;

	CHECK(pread(fln_image_memfd(bed.image), &value, sizeof(value), (off_t)(page * PAGE)) ==
		      (ssize_t)sizeof(value),
	      "pread: %s", strerror(errno));
	CHECK(value == want, "%s: page %llu of the image has 0x%llx", what,
	      (unsigned long long)page, (unsigned long long)value);
}

static bool in_cache(uint64_t page)
{
	off_t at = (off_t)(page * PAGE);

	return lseek(fln_image_memfd(bed.image), at, SEEK_DATA) == at;
}

static uint64_t due(uint64_t page)
{
	return word_of(1, page, 0);
}

static void writes_are_private(void)
{
	begin(FLN_DISCARD_DEFAULT);
	up();
	write_to(0, 5, 100); /* the first touch of all */
	expect(1, 5, due(5), "another guest, afterwards");
	expect(0, 6, due(6), "a neighbour");
	write_to(0, 6, 101);
	write_to(1, 6, 201);
	expect(0, 5, 100, "its own write");
	expect(0, 6, 101, "its own write");
	expect(1, 6, 201, "its own write");
	expect(2, 6, due(6), "a guest that has not written");
	expect_image(5, due(5), "after private writes");
	expect_image(6, due(6), "after private writes");
	down();
}

/* What a shared guest writes is the image's: seen by all that have not copied the page. */
static void beside_a_shared_guest(void)
{
	begin(FLN_DISCARD_DEFAULT);
	bed.maker.every_zero = 11;
	bed.image_opts.folio = FLN_FOLIO_SMALL; /* where holes take no memory */
	up();
	OK(fln_guest_destroy(guests[2]));
	add_guest(2, FLN_SHARING_SHARED);
	write_to(0, 7, 100);
	expect(1, 8, due(8), "contents");
	write_to(2, 7, 300);
	write_to(2, 8, 301);
	write_to(2, 1066, 302); /* a hole until now */
	expect(0, 7, 100, "the private copy");
	expect(1, 7, 300, "what the shared guest wrote");
	expect(1, 8, 301, "what the shared guest wrote, mapped before");
	expect(1, 1066, 302, "a hole that the shared guest has written to");
	expect(2, 21, 0, "a hole");
	expect(0, 21, 0, "a hole");
	write_to(0, 21, 103);
	expect(2, 21, 0, "a hole that a private guest has written to");
	expect(1, 32, 0, "a hole");
	CHECK(!in_cache(32), "a hole took a page of the image");
	/* Given up by the shared guest: given up for all that have not copied it. */
	CHECK(madvise(mem[2] + 7 * PAGE, 2 * PAGE, MADV_REMOVE) == 0, "madvise");
	expect(0, 7, 100, "the private copy");
	expect(1, 7, 0, "given up by the shared guest");
	expect(1, 8, 0, "given up by the shared guest, mapped before");
	/* Given up by a private guest: nobody else's affair. */
	CHECK(madvise(mem[0] + 40 * PAGE, 8 * PAGE, MADV_DONTNEED) == 0, "madvise");
	expect(0, 42, 0, "given up by itself");
	expect(2, 42, due(42), "given up by a private guest");
	down();
}

static void discards_read_zero(void)
{
	struct fln_stats s;

	begin(FLN_DISCARD_ZERO);
	up();
	expect(0, 100, due(100), "contents");
	write_to(0, 101, 100);
	expect(1, 102, due(102), "contents");
	/* Mapped, written, cached, not even filled. */
	CHECK(madvise(mem[0] + 100 * PAGE, 1000 * PAGE, MADV_DONTNEED) == 0, "madvise");
	CHECK(madvise(mem[0], PAGE, MADV_REMOVE) != 0 && errno == EACCES,
	      "MADV_REMOVE in a private mapping");
	expect(0, 100, 0, "read before");
	expect(0, 101, 0, "written before");
	expect(0, 102, 0, "cached, never touched here");
	expect(0, 900, 0, "never filled");
	expect(0, 99, due(99), "the page before");
	expect(0, 1100, due(1100), "the page behind");
	expect(1, 900, due(900), "another guest");
	write_to(0, 101, 101);
	write_to(0, 500, 102);
	expect(0, 101, 101, "written anew");
	CHECK(madvise(mem[0] + 101 * PAGE, PAGE, MADV_DONTNEED) == 0, "madvise");
	expect(0, 101, 0, "given up once more");
	expect(0, 500, 102, "written anew");
	expect(1, 500, due(500), "another guest");
	settled_stats(guests[0], &s);
	CHECK(s.zero >= 4, "%llu faults found zeros", (unsigned long long)s.zero);
	STEP("fln_guest_stop");
	OK(fln_guest_stop(guests[0]));
	for (uint64_t page = 100; page < 1100; page++) {
		uint64_t value = 1;

		CHECK(touch_read(mem[0] + page * PAGE, &value) == TOUCH_OK &&
			      value == (page == 500 ? 102 : 0),
		      "page %llu, given up, reads 0x%llx after the stop", (unsigned long long)page,
		      (unsigned long long)value);
	}
	down();
}

static void discards_bring_the_image_back(void)
{
	begin(FLN_DISCARD_IMAGE);
	up();
	write_to(0, 101, 100);
	CHECK(madvise(mem[0] + 100 * PAGE, 1000 * PAGE, MADV_DONTNEED) == 0, "madvise");
	expect(0, 101, due(101), "given up");
	expect(0, 900, due(900), "given up before it was filled");
	expect(1, 901, due(901), "another guest");
	down();
}

/* What is not there when the guest ends; what is; and what was given up. */
static void ends(void)
{
	struct toucher waits;
	uint64_t value;

	begin(FLN_DISCARD_ZERO);
	bed.guest_opts.window_first = bed.guest_opts.window_max = 1;
	up();
	OK(fln_image_fill(bed.image, 0, 512 * PAGE));
	write_to(0, 3, 100);
	CHECK(madvise(mem[0] + 500 * PAGE, 24 * PAGE, MADV_DONTNEED) == 0, "madvise");
	atomic_store(&bed.maker.gate_closed, true);
	toucher_read(&waits, mem[0] + 1500 * PAGE);
	toucher_expect_asleep(&waits, 30, "the source is held back");
	STEP("fln_guest_stop");
	OK(fln_guest_stop(guests[0]));
	toucher_expect(&waits, TOUCH_SIGBUS, "the waiting thread");
	for (uint64_t page = 0; page < NR_PAGES; page++) {
		enum touch end = touch_read(mem[0] + page * PAGE, &value);
		uint64_t want = page == 3 ? 100 : page >= 500 ? 0 : due(page);

		if (page >= 524)
			CHECK(end == TOUCH_SIGBUS, "page %llu: the thread %s, 0x%llx",
			      (unsigned long long)page, touch_name(end), (unsigned long long)value);
		else
			CHECK(end == TOUCH_OK && value == want, "page %llu: the thread %s, 0x%llx",
			      (unsigned long long)page, touch_name(end), (unsigned long long)value);
	}
	CHECK(!in_cache(520) && !in_cache(1599), "reading has put zeros into the image");
	atomic_store(&bed.maker.gate_closed, false);
	expect(1, 520, due(520), "another guest, which is served");
	down();
}

static void pusher(void *arg, uint32_t index)
{
	static _Thread_local uint64_t words[PAGE / sizeof(uint64_t)];

	(void)arg;
	for (uint64_t page = index; page < NR_PAGES; page += 4) {
		contents_of(1, page, words);
		OK(fln_image_put(bed.image, page * PAGE, words, PAGE));
		if (page % 64 == index)
			sleep_ms(1);
	}
}

static void write_part(void *arg, uint32_t index)
{
	uint32_t guest = index % NR_GUESTS, part = index / NR_GUESTS;
	uint64_t value;

	(void)arg;
	for (uint64_t i = 0; i < NR_PAGES; i++) {
		uint64_t page = (i * 769) % NR_PAGES; /* all of them, in no order */

		if (page % 8 != part)
			continue;
		if (page % 16 == part)
			CHECK(touch_write(mem[guest] + page * PAGE + 8,
					  (guest + 1) * 1000000 + page) == TOUCH_OK,
			      "write");
		CHECK(touch_read(mem[guest] + page * PAGE, &value) == TOUCH_OK &&
			      value == due(page),
		      "guest %u, page %llu reads 0x%llx", guest, (unsigned long long)page,
		      (unsigned long long)value);
	}
}

static void verify_parts(void)
{
	uint64_t value;

	for (uint32_t guest = 0; guest < NR_GUESTS; guest++) {
		for (uint64_t page = 0; page < NR_PAGES; page++) {
			uint64_t want =
				page % 16 < 8 ? (guest + 1) * 1000000 + page : word_of(1, page, 1);

			CHECK(touch_read(mem[guest] + page * PAGE + 8, &value) == TOUCH_OK &&
				      value == want,
			      "guest %u, page %llu has 0x%llx", guest, (unsigned long long)page,
			      (unsigned long long)value);
		}
	}
	for (uint64_t page = 0; page < NR_PAGES; page++) {
		static uint64_t want[PAGE / sizeof(uint64_t)], have[PAGE / sizeof(uint64_t)];

		contents_of(1, page, want);
		CHECK(pread(fln_image_memfd(bed.image), have, PAGE, (off_t)(page * PAGE)) ==
				      (ssize_t)PAGE &&
			      memcmp(want, have, PAGE) == 0,
		      "page %llu of the image has changed", (unsigned long long)page);
	}
}

static void while_it_is_pushed(void)
{
	struct crew writers, pushers;

	begin(FLN_DISCARD_ZERO);
	OK(fln_engine_create(&bed.engine_opts, &bed.engine));
	OK(fln_engine_start(bed.engine));
	OK(fln_image_create(bed.engine, &bed.image_opts, &bed.image)); /* no source */
	up();
	STEP("threads of %u guests, while the image is pushed", NR_GUESTS);
	crew_start(&writers, 8 * NR_GUESTS, write_part, NULL);
	crew_start(&pushers, 4, pusher, NULL);
	crew_wait(&pushers, 60, "threads that push");
	crew_wait(&writers, 60, "threads that write");
	verify_parts();
	down();
}

static void while_it_is_read(void)
{
	struct fln_source_delay_opts delay = FLN_SOURCE_DELAY_OPTS_INIT;
	struct fln_source *made;
	struct crew writers;

	begin(FLN_DISCARD_ZERO);
	maker_source(&bed.maker, &made);
	delay.delay_ns = 2 * MS;
	delay.every_pages = 32;
	OK(fln_source_with_delay(made, &delay, &bed.source));
	fln_source_destroy(made);
	bed.image_opts.source = bed.source;
	up();
	STEP("threads of %u guests, while the image is read", NR_GUESTS);
	crew_start(&writers, 8 * NR_GUESTS, write_part, NULL);
	crew_wait(&writers, 60, "threads that write");
	verify_parts();
	/* Once for all of them. */
	CHECK(atomic_load(&bed.maker.nr_bytes) == LEN, "%llu bytes were read of %llu",
	      (unsigned long long)atomic_load(&bed.maker.nr_bytes), (unsigned long long)LEN);
	down();
}

static void adopted(void)
{
	struct fln_region_opts o = FLN_REGION_OPTS_INIT;
	struct fln_region *region;
	uint64_t value;
	uint8_t *p;
	int memfd;

	begin(FLN_DISCARD_ZERO);
	bed_up_image(&bed);
	OK(fln_guest_create(bed.engine, &bed.guest_opts, &bed.guest));
	memfd = fln_image_memfd(bed.image);
	p = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE, memfd, 0);
	CHECK(p != MAP_FAILED, "mmap: %s", strerror(errno));
	o.image = bed.image;
	o.len_bytes = LEN;
	o.addr = (uintptr_t)p;
	REFUSED(fln_region_add(bed.guest, &o, &region), -EINVAL, "MAP_SHARED");
	o.sharing = FLN_SHARING_PRIVATE;
	o.addr = (uintptr_t)mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
	REFUSED(fln_region_add(bed.guest, &o, &region), -EINVAL, "MAP_PRIVATE");
	CHECK(munmap((void *)(uintptr_t)o.addr, LEN) == 0, "munmap");
	REFUSED(fln_region_add(bed.guest, &o, &region), -EINVAL, "MAP_PRIVATE addr");

	/* What was written before goes; and so do zeros that were read too early. */
	CHECK(touch_write(p + 9 * PAGE, 4711) == TOUCH_OK, "write");
	CHECK(touch_read(p + 10 * PAGE, &value) == TOUCH_OK && value == 0, "a hole");
	bed.region_opts.addr = (uintptr_t)p;
	bed_up(&bed);
	CHECK(fln_region_addr(bed.region) == p, "another address");
	read_all(&bed, 100);
	CHECK(touch_write(p + 20 * PAGE, 4711) == TOUCH_OK, "write");
	CHECK(madvise(p + 21 * PAGE, 2 * PAGE, MADV_DONTNEED) == 0, "madvise");
	STEP("fln_region_remove");
	OK(fln_region_remove(bed.region));
	CHECK(touch_read(p + 20 * PAGE, &value) == TOUCH_OK && value == 4711, "its own write");
	CHECK(touch_read(p + 22 * PAGE, &value) == TOUCH_OK && value == 0, "given up");
	CHECK(touch_read(p + 23 * PAGE, &value) == TOUCH_OK && value == due(23), "contents");
	bed_down(&bed);
	(void)munmap(p, LEN);
}

static void refused(void)
{
	struct fln_region_opts o = FLN_REGION_OPTS_INIT;
	struct fln_region *r;

	begin(FLN_DISCARD_ZERO);
	bed_up(&bed);
	o.image = bed.image;
	o.len_bytes = LEN;
	o.sharing = FLN_SHARING_NR;
	REFUSED(fln_region_add(bed.guest, &o, &r), -EINVAL, "sharing");
	o.sharing = FLN_SHARING_PRIVATE;
	o.delivery = FLN_DELIVERY_IN_CONTEXT;
	REFUSED(fln_region_add(bed.guest, &o, &r), -EOPNOTSUPP, "FLN_DISCARD_IMAGE");
	bed_down(&bed);
}

int main(void)
{
	test_init();
	RUN(writes_are_private);
	RUN(beside_a_shared_guest);
	RUN(discards_read_zero);
	RUN(discards_bring_the_image_back);
	RUN(ends);
	RUN(while_it_is_pushed);
	RUN(while_it_is_read);
	RUN(adopted);
	RUN(refused);
	return 0;
}
