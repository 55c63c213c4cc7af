/* SPDX-License-Identifier: MIT */
/*
 * Memory that mremap() takes from its place: unreadable there, the guest served elsewhere, and
 * nobody reads zeros where contents are due, also when the guest has stopped.
 */
#include "engine/state/engine.h"
#include "tests/integration/harness.h"

#include <linux/userfaultfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

#define NR_PAGES 1536u

static struct bed bed;

static uint8_t *reserve(uint64_t nr_pages)
{
	void *p = mmap(NULL, nr_pages * PAGE, PROT_NONE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	CHECK(p != MAP_FAILED, "mmap: %s", strerror(errno));
	return p;
}

static void move(uint8_t *from, uint8_t *to, uint64_t nr_pages, int flags)
{
	CHECK(mremap(from, nr_pages * PAGE, nr_pages * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED | flags,
		     to) == to,
	      "mremap: %s", strerror(errno));
}

static enum fln_delivery delivery;
static enum fln_sharing sharing;

static void expect(uint64_t page, const char *what)
{
	uint64_t value = 0;
	struct toucher t;

	if (delivery == FLN_DELIVERY_IN_CONTEXT) { /* by this thread, which has entered */
		CHECK(touch_read(bed_page(&bed, page), &value) == TOUCH_OK &&
			      value == word_of(1, page, 0),
		      "page %llu, %s: 0x%llx", (unsigned long long)page, what,
		      (unsigned long long)value);
		return;
	}
	toucher_read(&t, bed_page(&bed, page));
	toucher_expect_value(&t, word_of(1, page, 0), what);
}

/* Nothing of [at, +nr_pages) can be read, with or without a handler of ours. */
static void expect_unreadable(const uint8_t *at, uint64_t nr_pages, const char *what)
{
	uint64_t value = 0;

	STEP("%s", what);
	for (uint64_t i = 0; i < nr_pages; i++) {
		enum touch end = touch_read(at + i * PAGE, &value);

		CHECK(end == TOUCH_SIGBUS || end == TOUCH_SIGSEGV, "%s: page %llu: %s, 0x%llx",
		      what, (unsigned long long)i, touch_name(end), (unsigned long long)value);
	}
}

/* Contents or a signal, never anything else. */
static void expect_closed(const uint8_t *at, uint64_t first, uint64_t nr_pages)
{
	uint64_t value = 0;

	STEP("after the end");
	for (uint64_t i = 0; i < nr_pages; i++) {
		enum touch end = touch_read(at + i * PAGE, &value);

		CHECK(end == TOUCH_SIGBUS || end == TOUCH_SIGSEGV ||
			      (end == TOUCH_OK && value == word_of(1, first + i, 0)),
		      "page %llu after the end: %s, 0x%llx", (unsigned long long)(first + i),
		      touch_name(end), (unsigned long long)value);
	}
}

static void expect_event(uint64_t addr)
{
	uint64_t until = now_ns() + WAIT_S * 1000 * MS;
	struct fln_event e = FLN_EVENT_INIT;

	for (;;) {
		CHECK(now_ns() < until, "no event tells of memory that was moved");
		if (fln_engine_next_event(bed.engine, &e) != 1)
			sleep_ms(1);
		else if (e.kind == FLN_EVENT_MEMORY_MOVED)
			break;
	}
	CHECK(e.guest == bed.guest && e.value == addr, "the event tells of 0x%llx",
	      (unsigned long long)e.value);
}

static void begin(void)
{
	bed_init(&bed, NR_PAGES);
	bed.guest_opts.nr_shards = 1;
	bed.engine_opts.fill_pages = 1;
	bed.region_opts.delivery = delivery;
	bed.region_opts.sharing = sharing;
	if (sharing == FLN_SHARING_PRIVATE)
		bed.region_opts.discard = FLN_DISCARD_IMAGE;
	bed_up(&bed);
	if (delivery == FLN_DELIVERY_IN_CONTEXT)
		OK(fln_thread_enter());
}

static void stop(void)
{
	STEP("fln_guest_stop");
	OK(fln_guest_stop(bed.guest));
}

static void end(void)
{
	if (delivery == FLN_DELIVERY_IN_CONTEXT)
		fln_thread_leave();
	bed_down(&bed);
}

static void moved_away(void)
{
	uint8_t *to = reserve(300);

	begin();
	for (uint64_t page = 0; page < 200; page += 3)
		expect(page, "before");
	move(bed_page(&bed, 100), to, 300, 0);
	expect_event((uintptr_t)bed_page(&bed, 100));
	expect_unreadable(to, 150, "where it is now");
	for (uint64_t page = 0; page < NR_PAGES; page += 5) {
		if (page < 100 || page >= 400)
			expect(page, "elsewhere");
	}
	stop();
	expect_unreadable(to, 300, "after the stop");
	expect_closed(bed_page(&bed, 400), 400, NR_PAGES - 400);
	end();
	expect_unreadable(to, 300, "after the end");
	(void)munmap(to, 300 * PAGE);
}

/* On top of another part of the region, and home again: neither is served. */
static void moved_onto_the_region(void)
{
	begin();
	expect(110, "before");
	move(bed_page(&bed, 100), bed_page(&bed, 700), 20, 0);
	expect_event((uintptr_t)bed_page(&bed, 100));
	expect_unreadable(bed_page(&bed, 700), 20, "on top of the region");
	for (uint64_t page = 600; page < 800; page++) {
		if (page < 700 || page >= 720)
			expect(page, "around it");
	}
	move(bed_page(&bed, 700), bed_page(&bed, 100), 20, 0);
	expect_unreadable(bed_page(&bed, 100), 20, "home again");
	expect(99, "before it");
	expect(120, "behind it");
	CHECK(fln_guest_populate(bed.guest, (uintptr_t)bed_page(&bed, 90), 40 * PAGE, NULL) != 0,
	      "populate knows nothing of what was moved");
	stop();
	expect_unreadable(bed_page(&bed, 100), 20, "home again, after the stop");
	end();
}

/* The old place stays mapped, and is served anew; nothing of either reads zeros in the end. */
static void the_old_place_stays(void)
{
	uint8_t *to = reserve(300);

	begin();
	for (uint64_t page = 100; page < 200; page += 3)
		expect(page, "before");
	if (mremap(bed_page(&bed, 100), 300 * PAGE, 300 * PAGE,
		   MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, to) != to) {
		test_note("MREMAP_DONTUNMAP is refused here: %s", strerror(errno));
	} else {
		expect_event((uintptr_t)bed_page(&bed, 100));
		expect_unreadable(to, 300, "where it is now");
		for (uint64_t page = 100; page < 300; page += 7)
			expect(page, "where it was");
		stop();
		expect_unreadable(to, 300, "after the stop");
		expect_closed(bed_page(&bed, 100), 100, 300);
	}
	end();
	(void)munmap(to, 300 * PAGE);
}

/* The first pages of the image at @nr pages of address space that can grow. */
static uint8_t *adopt(uint64_t nr, uint64_t room)
{
	uint8_t *p;

	bed_init(&bed, NR_PAGES);
	bed.guest_opts.nr_shards = 1;
	bed.engine_opts.fill_pages = 1;
	bed.region_opts.delivery = delivery;
	bed.region_opts.sharing = sharing;
	if (sharing == FLN_SHARING_PRIVATE)
		bed.region_opts.discard = FLN_DISCARD_IMAGE;
	OK(fln_engine_create(&bed.engine_opts, &bed.engine));
	OK(fln_engine_start(bed.engine));
	maker_source(&bed.maker, &bed.source);
	bed.image_opts.source = bed.source;
	bed.image_opts.len_bytes = NR_PAGES * PAGE;
	OK(fln_image_create(bed.engine, &bed.image_opts, &bed.image));
	OK(fln_guest_create(bed.engine, &bed.guest_opts, &bed.guest));
	p = reserve(room);
	CHECK(munmap(p, room * PAGE) == 0, "munmap");
	CHECK(mmap(p, nr * PAGE, PROT_READ | PROT_WRITE,
		   (sharing == FLN_SHARING_PRIVATE ? MAP_PRIVATE : MAP_SHARED) | MAP_FIXED,
		   fln_image_memfd(bed.image), 0) == p,
	      "mmap: %s", strerror(errno));
	bed.region_opts.image = bed.image;
	bed.region_opts.addr = (uintptr_t)p;
	bed.region_opts.len_bytes = nr * PAGE;
	OK(fln_region_add(bed.guest, &bed.region_opts, &bed.region));
	bed.mem = p;
	OK(fln_guest_start(bed.guest));
	if (delivery == FLN_DELIVERY_IN_CONTEXT)
		OK(fln_thread_enter());
	return p;
}

/* What mremap() adds to the region is none of it: where it is, and with it moved. */
static void grown(void)
{
	uint8_t *p = adopt(512, 1024), *to = reserve(1024);

	expect(500, "before");
	if (mremap(p + 100 * PAGE, 412 * PAGE, 812 * PAGE, 0) == MAP_FAILED) {
		test_note("it cannot grow in place here: %s", strerror(errno));
	} else {
		expect_unreadable(p + 512 * PAGE, 100, "what was added");
		expect(511, "the last page");
	}
	move(p + 300 * PAGE, to, 100, 0);
	CHECK(mremap(p, 200 * PAGE, 600 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to + 200 * PAGE) ==
		      to + 200 * PAGE,
	      "mremap: %s", strerror(errno));
	expect_unreadable(to + 200 * PAGE, 300, "moved, and what was added");
	expect(450, "what is left");
	stop();
	expect_unreadable(p + 512 * PAGE, 400, "what was added, after the stop");
	expect_unreadable(to, 100, "what was moved, after the stop");
	expect_unreadable(to + 200 * PAGE, 600, "moved, and what was added, after the stop");
	end();
	(void)munmap(to, 1024 * PAGE);
	(void)munmap(p, 1024 * PAGE);
}

static struct rlimit descriptors;

/* No descriptor can be opened, or as many as before. */
static void limit_descriptors(bool none)
{
	struct rlimit limit = descriptors;

	if (none) {
		OK(getrlimit(RLIMIT_NOFILE, &descriptors));
		limit = descriptors;
		limit.rlim_cur = 0;
	}
	OK(setrlimit(RLIMIT_NOFILE, &limit));
}

static void *give_back(void *arg)
{
	(void)arg;
	sleep_ms(100);
	limit_descriptors(false);
	return NULL;
}

/*
 * Descriptors run out while something is moved and a region with something behind it removed:
 * what could not be looked at then is in the end, and no userfaultfd stays open.
 */
static void no_descriptors(void)
{
	uint8_t *to = reserve(300), *more = reserve(300);
	struct fln_region_opts o = FLN_REGION_OPTS_INIT;
	struct fln_region *region;
	pthread_t thread;

	begin();
	o = bed.region_opts;
	o.image = bed.image;
	o.addr = 0;
	o.len_bytes = 64 * PAGE;
	OK(fln_region_add(bed.guest, &o, &region));
	move(bed_page(&bed, 100), to, 200, 0);
	limit_descriptors(true);
	move(bed_page(&bed, 400), more, 300, 0);
	expect_event((uintptr_t)bed_page(&bed, 100));
	expect_event((uintptr_t)bed_page(&bed, 400));
	STEP("fln_region_remove without descriptors");
	CHECK(fln_region_remove(region) == 0 || sharing == FLN_SHARING_PRIVATE, "remove");
	expect(900, "elsewhere");
	CHECK(pthread_create(&thread, NULL, give_back, NULL) == 0, "pthread_create");
	stop();
	(void)pthread_join(thread, NULL);
	expect_unreadable(to, 200, "after the stop");
	expect_unreadable(more, 300, "moved without descriptors, after the stop");
	expect_closed(bed_page(&bed, 700), 700, NR_PAGES - 700);
	end();
	(void)munmap(to, 300 * PAGE);
	(void)munmap(more, 300 * PAGE);
}

/* The same, of what mremap() has added to a region that is removed meanwhile. */
static void grown_without_descriptors(void)
{
	uint8_t *p = adopt(512, 1024);

	expect(500, "before");
	if (mremap(p, 512 * PAGE, 812 * PAGE, 0) == MAP_FAILED) {
		test_note("it cannot grow in place here: %s", strerror(errno));
	} else {
		/* The end waits for descriptors that do not come. */
		bed.engine->close_patience_ns = 200 * MS;
		limit_descriptors(true);
		STEP("fln_region_remove without descriptors");
		CHECK(fln_region_remove(bed.region) == 0 || sharing == FLN_SHARING_PRIVATE,
		      "fln_region_remove: %s", fln_last_error());
		limit_descriptors(false);
	}
	stop();
	expect_unreadable(p + 512 * PAGE, 300, "what was added, after the stop");
	expect_closed(p, 0, 512);
	end();
	(void)munmap(p, 1024 * PAGE);
}

/* What lies where the region was is the embedder's: neither closed nor unmapped. */
static void something_else_at_home(void)
{
	uint8_t *to = reserve(600), *home;
	uint64_t value;

	begin();
	home = bed_page(&bed, 40);
	move(home, to, 600, 0);
	CHECK(mmap(home, 600 * PAGE, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == home,
	      "mmap: %s", strerror(errno));
	CHECK(touch_write(home + 5 * PAGE, 17) == TOUCH_OK, "write");
	STEP("fln_region_remove");
	OK(fln_region_remove(bed.region));
	CHECK(touch_read(home + 5 * PAGE, &value) == TOUCH_OK && value == 17, "0x%llx",
	      (unsigned long long)value);
	CHECK(touch_read(home + 6 * PAGE, &value) == TOUCH_OK && value == 0, "0x%llx",
	      (unsigned long long)value);
	expect_unreadable(to, 600, "where it is now");
	end();
	(void)munmap(to, 600 * PAGE);
	(void)munmap(home, 600 * PAGE);
}

/* Where something was moved to, and taken away again, another region begins anew. */
static void another_region_there(void)
{
	struct fln_region_opts o = FLN_REGION_OPTS_INIT;
	struct fln_region *region;
	struct toucher t;
	uint8_t *to = reserve(600);

	begin();
	move(bed_page(&bed, 40), to, 600, 0);
	expect_unreadable(to, 600, "where it is now");
	CHECK(mmap(to, 600 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
		   fln_image_memfd(bed.image), (off_t)(700 * PAGE)) == to,
	      "mmap: %s", strerror(errno));
	o.image = bed.image;
	o.image_offset_bytes = 700 * PAGE;
	o.addr = (uintptr_t)to;
	o.len_bytes = 600 * PAGE;
	STEP("fln_region_add where something was moved to");
	OK(fln_region_add(bed.guest, &o, &region));
	toucher_read(&t, to + 20 * PAGE);
	toucher_expect_value(&t, word_of(1, 720, 0), "the new region");
	stop();
	expect_closed(to, 700, 600);
	end();
	(void)munmap(to, 600 * PAGE);
}

/* The end of a large reserve of address space costs as much as the regions in it. */
static void a_large_reserve(void)
{
	struct fln_region_opts o = FLN_REGION_OPTS_INIT;
	uint64_t room = (uint64_t)1 << 40, t0;
	struct fln_region *region;
	struct toucher t;
	uint8_t *p;

	begin();
	p = reserve(room / PAGE);
	CHECK(mmap(p, NR_PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
		   fln_image_memfd(bed.image), 0) == p,
	      "mmap: %s", strerror(errno));
	o.image = bed.image;
	o.addr = (uintptr_t)p;
	o.len_bytes = NR_PAGES * PAGE;
	OK(fln_region_add(bed.guest, &o, &region));
	toucher_read(&t, p);
	toucher_expect_value(&t, word_of(1, 0, 0), "contents");
	STEP("munmap of 1 TiB");
	CHECK(munmap(p, room) == 0, "munmap: %s", strerror(errno));
	t0 = cpu_ns();
	expect(9, "another region");
	t0 = cpu_ns() - t0;
	CHECK(t0 < 1000 * MS, "it took %llu ms of processor time", (unsigned long long)(t0 / MS));
	OK(fln_region_remove(region));
	end();
}

/* Another process's: poisoned where it is touched, and in the end. */
static void foreign(void)
{
	uint64_t len = NR_PAGES * PAGE, value;
	uint8_t *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint8_t *to = reserve(600);
	int uffd;

	CHECK(p != MAP_FAILED, "mmap: %s", strerror(errno));
	(void)madvise(p, len, MADV_NOHUGEPAGE);
	uffd = raw_uffd(UFFD_FEATURE_EVENT_REMOVE | UFFD_FEATURE_EVENT_REMAP |
			UFFD_FEATURE_EVENT_UNMAP);
	CHECK(raw_register(uffd, p, len, UFFDIO_REGISTER_MODE_MISSING) == 0, "register");
	bed_init(&bed, NR_PAGES);
	bed.guest_opts.flags = FLN_GUEST_F_FOREIGN;
	bed.guest_opts.foreign_uffd = uffd;
	bed.guest_opts.window_first = bed.guest_opts.window_max = 1;
	bed.region_opts.addr = (uintptr_t)p;
	bed_up(&bed);
	for (uint64_t page = 0; page < 200; page += 3)
		expect(page, "before");
	if (mremap(p + 1000 * PAGE, 300 * PAGE, 300 * PAGE,
		   MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, to + 300 * PAGE) == MAP_FAILED)
		test_note("MREMAP_DONTUNMAP is refused here: %s", strerror(errno));
	move(p + 100 * PAGE, to, 300, 0);
	expect_event((uintptr_t)p + 1000 * PAGE);
	expect_unreadable(to + 150 * PAGE, 50, "what was not mapped");
	CHECK(touch_read(to + 2 * PAGE, &value) == TOUCH_OK && value == word_of(1, 102, 0),
	      "what was mapped");
	expect(1200, "where it was");
	stop();
	expect_unreadable(to + 100 * PAGE, 500, "after the stop");
	expect_closed(to, 100, 100);
	expect_closed(p + 1000 * PAGE, 1000, 300);
	bed_down(&bed);
	(void)munmap(to, 600 * PAGE);
	(void)munmap(p, len);
}

int main(void)
{
	test_init();
	for (uint32_t kind = 0; kind < 3; kind++) {
		delivery = kind == 1 ? FLN_DELIVERY_IN_CONTEXT : FLN_DELIVERY_QUEUED;
		sharing = kind == 2 ? FLN_SHARING_PRIVATE : FLN_SHARING_SHARED;
		if (kind == 1 && fln_sigbus_install() != 0)
			continue;
		RUN(moved_away);
		RUN(moved_onto_the_region);
		RUN(the_old_place_stays);
		RUN(grown);
		RUN(something_else_at_home);
		RUN(no_descriptors);
		RUN(grown_without_descriptors);
	}
	delivery = FLN_DELIVERY_QUEUED;
	sharing = FLN_SHARING_SHARED;
	RUN(another_region_there);
	RUN(a_large_reserve);
	RUN(foreign);
	return 0;
}
