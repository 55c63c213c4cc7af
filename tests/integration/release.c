/* SPDX-License-Identifier: MIT */
/*
 * Memory that is released from its userfaultfds: by call and by itself, for each kind of region,
 * beside faults, discards and failures; and what is left of a guest that is released.
 */
#include "tests/integration/context_bed.h"

#include <linux/userfaultfd.h>
#include <sys/mman.h>
#include <unistd.h>

#define NR_BLOCKS 24u
#define NR_PAGES (NR_BLOCKS * 512u)
#define LEN (NR_PAGES * PAGE)

static struct bed bed;

static uint32_t nr_userfaultfds(void)
{
	char path[64], name[64];
	uint32_t nr = 0;

	for (int fd = 0; fd < 4096; fd++) {
		ssize_t len;

		(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		len = readlink(path, name, sizeof(name) - 1);
		if (len <= 0)
			continue;
		name[len] = '\0';
		nr += strcmp(name, "anon_inode:[userfaultfd]") == 0;
	}
	return nr;
}

/* Mappings within the bed's memory. */
static uint32_t nr_mappings(void)
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

static struct fln_release_report release(void)
{
	struct fln_release_report r = FLN_RELEASE_REPORT_INIT;

	STEP("fln_guest_release()");
	OK(fln_guest_release(bed.guest, &r));
	return r;
}

static void fill(uint64_t page, uint64_t nr)
{
	STEP("filling %llu pages", (unsigned long long)nr);
	OK(fln_image_fill(bed.image, page * PAGE, nr * PAGE));
}

static struct fln_stats stats(void)
{
	struct fln_stats s = FLN_STATS_INIT;

	OK(fln_guest_stats(bed.guest, &s));
	return s;
}

/* The event of the bed's guest, in time. */
static bool take_event(uint32_t kind, uint32_t ms)
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

static void expect_event(uint32_t kind)
{
	STEP("waiting for event %u", kind);
	CHECK(take_event(kind, WAIT_S * 1000), "event %u has not come in %u s", kind, WAIT_S);
}

static void expect_page(uint64_t page, uint64_t want, const char *what)
{
	struct toucher t;

	toucher_read(&t, bed_page(&bed, page));
	toucher_expect_value(&t, want, what);
}

static uint64_t due(uint64_t page)
{
	return word_of(1, page, 0);
}

/* The bed, with a mapping of the caller's, which outlives it. */
static void up_on_own_mapping(int flags)
{
	bed_up_image(&bed);
	bed.mem = mmap(NULL, LEN + BLOCK, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(bed.mem != MAP_FAILED, "mmap: %s", strerror(errno));
	bed.mem = (uint8_t *)(((uintptr_t)bed.mem + BLOCK - 1) & ~(BLOCK - 1));
	CHECK(mmap(bed.mem, LEN, PROT_READ | PROT_WRITE, flags | MAP_FIXED,
		   fln_image_memfd(bed.image), 0) == bed.mem,
	      "mmap: %s", strerror(errno));
	bed.region_opts.addr = (uintptr_t)bed.mem;
	bed_up(&bed);
}

static void by_call(void)
{
	struct fln_release_report r;
	uint32_t before;

	bed_init(&bed, NR_PAGES);
	bed_up_image(&bed);
	before = nr_userfaultfds(); /* the engine's */
	bed_up(&bed);
	r = release();
	CHECK(r.released_bytes == 0 && r.unfilled_bytes == LEN, "%llu released of an empty image",
	      (unsigned long long)r.released_bytes);
	fill(0, 512);
	fill(5 * 512, 3 * 512);
	fill(10 * 512, 511); /* not all of it */
	r = release();
	CHECK(r.released_bytes == 4 * BLOCK && r.unfilled_bytes == LEN - 4 * BLOCK,
	      "%llu released, %llu unfilled", (unsigned long long)r.released_bytes,
	      (unsigned long long)r.unfilled_bytes);
	CHECK(stats().released_bytes == 4 * BLOCK, "%llu by the statistics",
	      (unsigned long long)stats().released_bytes);
	expect_page(0, due(0), "a released page");
	expect_page(6 * 512, due(6 * 512), "a released page");
	CHECK(stats().faults == 0, "%llu faults on released pages",
	      (unsigned long long)stats().faults);
	expect_page(10 * 512 + 511, due(10 * 512 + 511), "the page that was left");
	CHECK(stats().faults == 1, "%llu faults", (unsigned long long)stats().faults);
	CHECK(nr_userfaultfds() > before, "no userfaultfd is left");
	read_all(&bed, 8);
	r = release();
	CHECK(r.released_bytes == LEN, "%llu released", (unsigned long long)r.released_bytes);
	CHECK(nr_userfaultfds() == before, "%u userfaultfds are open", nr_userfaultfds() - before);
	CHECK(stats().userfaultfds == 0, "%llu by the statistics",
	      (unsigned long long)stats().userfaultfds);
	CHECK(nr_mappings() == 1, "%u mappings", nr_mappings());
	expect_event(FLN_EVENT_GUEST_RELEASED);
	read_all(&bed, 8);
	r = release();
	CHECK(r.released_bytes == LEN && r.unfilled_bytes + r.kept_bytes + r.busy_bytes == 0,
	      "%llu released", (unsigned long long)r.released_bytes);
	bed_down(&bed);
}

static void is_declined(void)
{
	struct fln_release_report r;

	bed_init(&bed, NR_PAGES);
	bed.guest_opts.release = FLN_RELEASE_NEVER;
	bed_up(&bed);
	fill(0, NR_PAGES);
	r = release();
	CHECK(r.kept_bytes == LEN && r.released_bytes == 0, "%llu kept",
	      (unsigned long long)r.kept_bytes);
	CHECK(stats().userfaultfds > 0, "no userfaultfd");
	bed_down(&bed);

	/* A region's option goes before its guest's; and what a discard must read keeps it. */
	bed_init(&bed, NR_PAGES);
	bed.guest_opts.release = FLN_RELEASE_AUTO;
	bed.region_opts.sharing = FLN_SHARING_PRIVATE;
	bed.region_opts.discard = FLN_DISCARD_ZERO;
	bed_up(&bed);
	fill(0, NR_PAGES);
	r = release();
	CHECK(r.kept_bytes == LEN && r.released_bytes == 0, "%llu kept",
	      (unsigned long long)r.kept_bytes);
	expect_page(3, due(3), "contents");
	CHECK(madvise(bed_page(&bed, 3), PAGE, MADV_DONTNEED) == 0, "madvise");
	expect_page(3, 0, "discarded");
	bed_down(&bed);
	bed_init(&bed, NR_PAGES);
	bed.guest_opts.release = FLN_RELEASE_NEVER;
	bed.region_opts.release = FLN_RELEASE_ON_CALL;
	bed_up(&bed);
	fill(0, NR_PAGES);
	r = release();
	CHECK(r.released_bytes == LEN, "%llu released", (unsigned long long)r.released_bytes);
	bed_down(&bed);
}

struct touch_all {
	uint32_t nr;
	bool write;
	_Atomic uint64_t nr_wrong;
};

/* All threads go through all blocks, so that many wait in each block as it is released. */
static void touch_part(void *arg, uint32_t index)
{
	struct touch_all *t = arg;
	uint64_t at, word;

	for (uint64_t i = 0; i < NR_PAGES / t->nr; i++) {
		at = i * t->nr + index;
		CHECK(touch_read(bed_page(&bed, at), &word) == TOUCH_OK, "page %llu",
		      (unsigned long long)at);
		t->nr_wrong += word != due(at);
		if (t->write)
			CHECK(touch_write(bed_page(&bed, at) + 8, at) == TOUCH_OK, "page %llu",
			      (unsigned long long)at);
	}
}

static void touch_with(uint32_t nr, bool write)
{
	struct touch_all t = { .nr = nr, .write = write };
	struct crew crew;

	STEP("%u threads touch what is being released", nr);
	crew_start(&crew, nr, touch_part, &t);
	crew_wait(&crew, 60, "threads that touch all of the memory");
	CHECK(t.nr_wrong == 0, "%llu pages are wrong", (unsigned long long)t.nr_wrong);
}

static void by_itself(void)
{
	struct fln_stats s;

	bed_init(&bed, NR_PAGES);
	bed.guest_opts.release = FLN_RELEASE_AUTO;
	bed.engine_opts.fill_pages = 64;
	bed.maker.concurrency = FLN_SOURCE_PARALLEL;
	bed.maker.delay_ns = 50000;
	bed_up(&bed);
	touch_with(192, false);
	fill(0, NR_PAGES);
	expect_event(FLN_EVENT_GUEST_RELEASED);
	s = stats();
	CHECK(s.userfaultfds == 0 && s.released_bytes == LEN, "%llu userfaultfds, %llu released",
	      (unsigned long long)s.userfaultfds, (unsigned long long)s.released_bytes);
	CHECK(s.in_flight == 0, "%llu faults in flight", (unsigned long long)s.in_flight);
	CHECK(nr_mappings() == 1, "%u mappings", nr_mappings());
	touch_with(192, true);
	bed_down(&bed);
}

/* Its image is whole before the region comes, or the guest starts. */
static void of_a_filled_image(void)
{
	bed_init(&bed, NR_PAGES);
	bed.guest_opts.release = FLN_RELEASE_AUTO;
	bed_up_image(&bed);
	fill(0, NR_PAGES);
	bed_up(&bed);
	expect_event(FLN_EVENT_GUEST_RELEASED);
	read_all(&bed, 8);
	bed_down(&bed);
}

static void wait_released(uint64_t bytes)
{
	STEP("until %llu bytes are released", (unsigned long long)bytes);
	for (uint64_t t0 = now_ns(); stats().released_bytes < bytes; sleep_ms(1))
		CHECK(now_ns() - t0 < WAIT_S * 1000 * MS, "%llu of %llu bytes are released",
		      (unsigned long long)stats().released_bytes, (unsigned long long)bytes);
}

static void discards_shared(void)
{
	bed_init(&bed, NR_PAGES);
	bed.guest_opts.release = FLN_RELEASE_AUTO;
	bed_up(&bed);
	/* Before it is filled. */
	CHECK(madvise(bed_page(&bed, 7), 2 * PAGE, MADV_REMOVE) == 0, "madvise");
	fill(0, 4 * 512);
	wait_released(4 * BLOCK);
	expect_page(7, 0, "removed before it was filled");
	expect_page(9, due(9), "the page behind");
	/* After the release. */
	CHECK(madvise(bed_page(&bed, 20), PAGE, MADV_REMOVE) == 0, "madvise");
	expect_page(20, 0, "removed");
	CHECK(madvise(bed_page(&bed, 21), PAGE, MADV_DONTNEED) == 0, "madvise");
	expect_page(21, due(21), "DONTNEED keeps contents that are there");
	OK(fln_image_discard(bed.image, 22 * PAGE, PAGE));
	expect_page(22, 0, "fln_image_discard()");
	OK(fln_guest_advise(bed.guest, (uintptr_t)bed.mem, 8 * BLOCK, FLN_ADVICE_DONTNEED));
	expect_page(23, due(23), "advice DONTNEED");
	/* Blocks of the range that are served lie between released ones. */
	fill(5 * 512, 512);
	wait_released(5 * BLOCK);
	OK(fln_guest_advise(bed.guest, (uintptr_t)bed.mem, 8 * BLOCK, FLN_ADVICE_DONTNEED));
	expect_page(4 * 512, due(4 * 512), "advice DONTNEED of an unfilled page");
	expect_page(6 * 512, due(6 * 512), "advice DONTNEED of an unfilled page");
	expect_page(7 * 512 + 5, due(7 * 512 + 5), "advice DONTNEED of an unfilled page");
	bed_down(&bed);
}

static void discards_private(void)
{
	bed_init(&bed, NR_PAGES);
	bed.region_opts.release = FLN_RELEASE_AUTO;
	bed.region_opts.sharing = FLN_SHARING_PRIVATE;
	bed.region_opts.discard = FLN_DISCARD_IMAGE;
	bed_up(&bed);
	CHECK(touch_write(bed_page(&bed, 3), 99) == TOUCH_OK, "write");
	fill(0, NR_PAGES);
	expect_event(FLN_EVENT_GUEST_RELEASED);
	expect_page(3, 99, "an own write from before");
	CHECK(touch_write(bed_page(&bed, 4), 98) == TOUCH_OK, "write");
	expect_page(4, 98, "an own write");
	CHECK(madvise(bed_page(&bed, 3), 2 * PAGE, MADV_DONTNEED) == 0, "madvise");
	expect_page(3, due(3), "discarded, which reads the image");
	expect_page(4, due(4), "discarded, which reads the image");
	bed_down(&bed);
}

/* A page that has failed keeps its block, until its poison is lifted. */
static void with_poison(void)
{
	struct fln_source_error_opts o = FLN_SOURCE_ERROR_OPTS_INIT;
	struct fln_source *good, *bad;
	struct toucher t;
	uint8_t buf[PAGE];

	bed_init(&bed, NR_PAGES);
	bed.guest_opts.release = FLN_RELEASE_AUTO;
	maker_source(&bed.maker, &good);
	o.offset_bytes = 600 * PAGE;
	o.len_bytes = PAGE;
	o.error = EIO;
	OK(fln_source_with_errors(good, &o, &bad));
	fln_source_destroy(good);
	bed.image_opts.source = bed.source = bad;
	bed_up(&bed);
	toucher_read(&t, bed_page(&bed, 600));
	toucher_expect(&t, TOUCH_SIGBUS, "a page that has failed");
	(void)fln_image_fill(bed.image, 0, LEN);
	contents_of(1, 600, buf);
	OK(fln_image_put(bed.image, 600 * PAGE, buf, PAGE));
	wait_released(LEN - BLOCK);
	sleep_ms(100);
	CHECK(stats().released_bytes == LEN - BLOCK, "the block with poison is released");
	CHECK(release().failed_bytes == BLOCK, "the block with poison is released");
	toucher_read(&t, bed_page(&bed, 600));
	toucher_expect(&t, TOUCH_SIGBUS, "a poisoned page whose contents came later");
	OK(fln_guest_advise(bed.guest, (uintptr_t)bed_page(&bed, 600), PAGE, FLN_ADVICE_DONTNEED));
	expect_event(FLN_EVENT_GUEST_RELEASED);
	expect_page(600, due(600), "a page whose poison was lifted");
	bed_down(&bed);
}

static void in_context(void)
{
	bed_init(&bed, THREADS * 60);
	bed.guest_opts.release = FLN_RELEASE_AUTO;
	bed.maker.concurrency = FLN_SOURCE_PARALLEL;
	context_up(&bed, false);
	context_read_all(&bed);
	fill(0, bed.nr_pages);
	expect_event(FLN_EVENT_GUEST_RELEASED);
	CHECK(stats().userfaultfds == 0, "%llu userfaultfds",
	      (unsigned long long)stats().userfaultfds);
	context_read_all(&bed);
	bed_down(&bed);

	bed_init(&bed, THREADS * 60);
	context_up(&bed, true);
	CHECK(release().released_bytes == bed.nr_pages * PAGE, "not all is released");
	context_read_all(&bed);
	CHECK(stats().faults == 0, "%llu faults", (unsigned long long)stats().faults);
	bed_down(&bed);
}

static void foreign(void)
{
	struct fln_release_report r;
	uint32_t before;
	int uffd;

	bed_init(&bed, NR_PAGES);
	bed_up_image(&bed);
	before = nr_userfaultfds(); /* the engine's */
	bed.mem = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(bed.mem != MAP_FAILED, "mmap: %s", strerror(errno));
	(void)madvise(bed.mem, LEN, MADV_NOHUGEPAGE);
	uffd = raw_uffd(UFFD_FEATURE_EVENT_REMOVE);
	CHECK(raw_register(uffd, bed.mem, LEN, UFFDIO_REGISTER_MODE_MISSING) == 0, "register");
	bed.guest_opts.flags = FLN_GUEST_F_FOREIGN;
	bed.guest_opts.foreign_uffd = uffd;
	bed.guest_opts.release = FLN_RELEASE_AUTO;
	bed.region_opts.addr = (uintptr_t)bed.mem;
	bed_up(&bed);
	fill(0, NR_PAGES);
	r = release();
	CHECK(r.released_bytes == 0, "%llu released that were not copied",
	      (unsigned long long)r.released_bytes);
	for (uint64_t page = 0; page < 2 * 512; page++) {
		if (page == 77)
			CHECK(madvise(bed.mem + page * PAGE, PAGE, MADV_DONTNEED) == 0, "madvise");
		else
			expect_page(page, due(page), "contents");
	}
	wait_released(BLOCK);
	expect_page(77, 0, "discarded before it was copied");
	OK(fln_guest_populate(bed.guest, (uintptr_t)bed.mem, LEN, NULL));
	wait_released(LEN);
	(void)release(); /* no region is to come */
	expect_event(FLN_EVENT_GUEST_RELEASED);
	CHECK(nr_userfaultfds() == before, "%u userfaultfds", nr_userfaultfds());
	CHECK(madvise(bed.mem, PAGE, MADV_DONTNEED) == 0, "madvise");
	expect_page(0, 0, "discarded after the release");
	expect_page(1, due(1), "contents");
	bed_down(&bed);
	(void)munmap(bed.mem, LEN);
}

static void outlives_its_engine(void)
{
	uint64_t nr_wrong = 0;

	for (uint32_t sharing = 0; sharing < 2; sharing++) {
		bed_init(&bed, NR_PAGES);
		bed.region_opts.sharing = sharing ? FLN_SHARING_PRIVATE : FLN_SHARING_SHARED;
		bed.region_opts.discard = FLN_DISCARD_IMAGE;
		up_on_own_mapping(sharing ? MAP_PRIVATE : MAP_SHARED);
		CHECK(touch_write(bed_page(&bed, 9) + 16, 5) == TOUCH_OK, "write");
		fill(0, NR_PAGES);
		CHECK(release().released_bytes == LEN, "not all is released");
		CHECK(touch_write(bed_page(&bed, 10) + 16, 6) == TOUCH_OK, "write");
		bed_down(&bed);
		for (uint64_t page = 0; page < NR_PAGES; page++)
			nr_wrong += *(volatile uint64_t *)bed_page(&bed, page) != due(page);
		CHECK(nr_wrong == 0, "%llu pages are wrong", (unsigned long long)nr_wrong);
		CHECK(*(volatile uint64_t *)(bed_page(&bed, 9) + 16) == 5 &&
			      *(volatile uint64_t *)(bed_page(&bed, 10) + 16) == 6,
		      "writes are lost");
		(void)munmap(bed.mem, LEN);
	}
}

/* What is released stays readable, the rest becomes inaccessible. */
static void half_released_then_destroyed(void)
{
	struct toucher t;

	bed_init(&bed, NR_PAGES);
	up_on_own_mapping(MAP_SHARED);
	for (uint32_t block = 0; block < NR_BLOCKS; block += 2)
		fill(block * 512, 512);
	CHECK(release().released_bytes == LEN / 2, "half of it is not released");
	bed_down(&bed);
	for (uint64_t page = 0; page < NR_PAGES; page += 64) {
		toucher_read(&t, bed_page(&bed, page));
		if (page / 512 % 2 == 0)
			toucher_expect_value(&t, due(page), "a released page");
		else
			toucher_expect(&t, TOUCH_SIGBUS, "an unfilled page");
	}
	(void)munmap(bed.mem, LEN);
}

static void region_removed_and_added(void)
{
	struct fln_region *other;

	bed_init(&bed, NR_PAGES);
	bed.guest_opts.release = FLN_RELEASE_AUTO;
	bed_up(&bed);
	fill(0, NR_PAGES);
	expect_event(FLN_EVENT_GUEST_RELEASED);
	CHECK(stats().userfaultfds == 0, "userfaultfds");
	/* Its userfaultfds are opened again. */
	bed.region_opts.release = FLN_RELEASE_ON_CALL;
	bed.region_opts.delivery = FLN_DELIVERY_QUEUED;
	OK(fln_region_add(bed.guest, &bed.region_opts, &other));
	CHECK(stats().userfaultfds > 0, "no userfaultfd");
	CHECK(*(volatile uint64_t *)fln_region_addr(other) == due(0), "contents");
	CHECK(stats().faults == 1, "%llu faults", (unsigned long long)stats().faults);
	OK(fln_guest_populate(bed.guest, (uintptr_t)bed.mem, LEN, NULL));
	OK(fln_region_remove(other));
	CHECK(release().released_bytes == LEN, "not all is released");
	expect_event(FLN_EVENT_GUEST_RELEASED);
	OK(fln_region_remove(bed.region));
	bed.region = NULL;
	bed_down(&bed);
}

static void calls_on_released_memory(void)
{
	struct fln_residency sum = FLN_RESIDENCY_INIT;
	uint64_t nr = 0, resident = 0;
	unsigned char vec[512];

	bed_init(&bed, NR_PAGES);
	bed_up(&bed);
	fill(0, 8 * 512);
	CHECK(release().released_bytes == 8 * BLOCK, "not all is released");
	OK(fln_guest_residency(bed.guest, (uintptr_t)bed.mem, LEN, NULL, &sum));
	CHECK(sum.nr_pages[FLN_RESIDENCY_RELEASED] == 8 * 512 &&
		      sum.nr_pages[FLN_RESIDENCY_ABSENT] == NR_PAGES - 8 * 512,
	      "%llu pages are released", (unsigned long long)sum.nr_pages[FLN_RESIDENCY_RELEASED]);
	OK(fln_guest_populate(bed.guest, (uintptr_t)bed.mem, LEN, NULL));
	CHECK(mincore(bed.mem, BLOCK, vec) == 0, "mincore: %s", strerror(errno));
	for (uint32_t i = 0; i < 512; i++)
		resident += vec[i] & 1;
	CHECK(resident == 512, "%llu pages are resident", (unsigned long long)resident);
	(void)fln_guest_collapse(bed.guest, (uintptr_t)bed.mem, LEN, &nr);
	OK(fln_guest_advise(bed.guest, (uintptr_t)bed.mem, LEN, FLN_ADVICE_WILLNEED));
	CHECK(release().released_bytes == LEN, "not all is released");
	OK(fln_guest_populate(bed.guest, (uintptr_t)bed.mem, LEN, NULL));
	OK(fln_guest_advise(bed.guest, (uintptr_t)bed.mem, LEN, FLN_ADVICE_WILLNEED));
	OK(fln_guest_advise(bed.guest, (uintptr_t)bed.mem, LEN, FLN_ADVICE_SEQUENTIAL));
	OK(fln_guest_advise(bed.guest, (uintptr_t)bed.mem, LEN, FLN_ADVICE_DONTNEED));
	read_all(&bed, 4);
	OK(fln_guest_residency(bed.guest, (uintptr_t)bed.mem + PAGE, 3 * PAGE, vec, &sum));
	CHECK(vec[0] == FLN_RESIDENCY_RELEASED, "residency %u", vec[0]);
	bed_down(&bed);
}

/* Memory of the embedder's lies in a hole of the region, registered elsewhere: it stays so. */
static void beside_other_memory(void)
{
	uint8_t *hole;
	int uffd, other;

	bed_init(&bed, NR_PAGES);
	bed_up(&bed);
	fill(0, NR_PAGES);
	hole = bed_page(&bed, 3 * 512 + 100);
	CHECK(mmap(hole, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
		   -1, 0) == hole,
	      "mmap: %s", strerror(errno));
	uffd = raw_uffd(0);
	other = raw_uffd(0);
	CHECK(raw_register(uffd, hole, 4 * PAGE, UFFDIO_REGISTER_MODE_MISSING) == 0, "register");
	CHECK(release().released_bytes == LEN, "not all is released");
	CHECK(stats().userfaultfds == 0, "userfaultfds");
	CHECK(raw_register(other, hole, 4 * PAGE, UFFDIO_REGISTER_MODE_MISSING) == EBUSY,
	      "the hole was unregistered");
	CHECK(raw_unregister(uffd, hole, 4 * PAGE) == 0, "unregister");
	CHECK(*(volatile uint8_t *)hole == 0, "the hole has contents");
	expect_page(3 * 512 + 99, due(3 * 512 + 99), "the page before the hole");
	expect_page(3 * 512 + 104, due(3 * 512 + 104), "the page behind it");
	(void)close(uffd);
	(void)close(other);
	bed_down(&bed);
	(void)munmap(hole, 4 * PAGE);
}

/* What mremap() moves before the release stays inaccessible, after it it keeps its contents. */
static void moved(void)
{
	uint8_t *room = mmap(NULL, 4 * BLOCK, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint8_t *first = room, *second = room + 2 * BLOCK;

	CHECK(room != MAP_FAILED, "mmap: %s", strerror(errno));
	bed_init(&bed, NR_PAGES);
	bed_up(&bed);
	fill(0, NR_PAGES);
	CHECK(mremap(bed_page(&bed, 512), BLOCK, BLOCK, MREMAP_MAYMOVE | MREMAP_FIXED, first) ==
		      first,
	      "mremap: %s", strerror(errno));
	CHECK(release().released_bytes == LEN, "not all is released");
	CHECK(mremap(bed_page(&bed, 5 * 512), BLOCK, BLOCK, MREMAP_MAYMOVE | MREMAP_FIXED,
		     second) == second,
	      "mremap: %s", strerror(errno));
	CHECK(touch_read(first, &(uint64_t){ 0 }) == TOUCH_SIGSEGV, "moved before the release");
	CHECK(*(volatile uint64_t *)second == due(5 * 512), "moved after the release");
	expect_page(6 * 512, due(6 * 512), "what stayed");
	bed_down(&bed);
	CHECK(touch_read(first, &(uint64_t){ 0 }) == TOUCH_SIGSEGV, "moved before the release");
	CHECK(*(volatile uint64_t *)second == due(5 * 512), "moved after the release");
	(void)munmap(room, 4 * BLOCK);
}

/* Scattered blocks take mappings: never more than the budget has, and in the end there is one. */
static void within_the_budget(void)
{
	struct fln_release_report r;
	uint32_t most = 0;

	bed_init(&bed, 64 * 512);
	bed.engine_opts.max_stripes = 16;
	bed.guest_opts.nr_shards = 4;
	bed_up(&bed);
	for (uint32_t turn = 0, block = 0; turn < 64; turn++, block = (block + 37) % 64) {
		fill(block * 512, 512);
		r = release();
		most = nr_mappings() > most ? nr_mappings() : most;
		CHECK(nr_mappings() <= 16, "%u mappings after %u blocks", nr_mappings(), turn);
		CHECK(r.released_bytes + r.limited_bytes == (turn + 1) * BLOCK,
		      "%llu released, %llu without a mapping", (unsigned long long)r.released_bytes,
		      (unsigned long long)r.limited_bytes);
	}
	CHECK(most > 8, "only %u mappings", most);
	CHECK(nr_mappings() == 1, "%u mappings in the end", nr_mappings());
	read_all(&bed, 4);
	bed_down(&bed);
}

/* The process has no mapping left: the block is served, and released once there are some. */
static void at_the_limit_of_mappings(void)
{
	uint64_t room = (uint64_t)200000 * PAGE;
	uint8_t *taken =
		mmap(NULL, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	struct fln_release_report r;
	uint64_t at = PAGE, word;

	CHECK(taken != MAP_FAILED, "mmap: %s", strerror(errno));
	bed_init(&bed, NR_PAGES);
	bed.guest_opts.release = FLN_RELEASE_AUTO;
	bed.guest_opts.nr_shards = 1; /* one stripe, which would be cut in three */
	bed_up(&bed);
	fill(10 * 512, 511);
	while (at < room && mprotect(taken + at, PAGE, PROT_READ) == 0)
		at += 2 * PAGE;
	if (at >= room) {
		test_note("this process may have more than 200 000 mappings");
	} else {
		fill(10 * 512 + 511, 1);
		r = release();
		CHECK(r.limited_bytes == BLOCK && r.released_bytes == 0, "%llu released",
		      (unsigned long long)r.released_bytes);
		/* On this thread: there is no mapping for another one's stack. */
		CHECK(touch_read(bed_page(&bed, 10 * 512 + 5), &word) == TOUCH_OK &&
			      word == due(10 * 512 + 5),
		      "a page of a block that could not be released");
	}
	STEP("until there are mappings again");
	(void)munmap(taken, room);
	wait_released(BLOCK); /* nobody asks for it */
	fill(0, NR_PAGES);
	expect_event(FLN_EVENT_GUEST_RELEASED);
	read_all(&bed, 4);
	bed_down(&bed);
}

int main(void)
{
	test_init();
	context_init();
	RUN(by_call);
	RUN(is_declined);
	RUN(by_itself);
	RUN(of_a_filled_image);
	RUN(discards_shared);
	RUN(discards_private);
	RUN(with_poison);
	RUN(in_context);
	RUN(foreign);
	RUN(outlives_its_engine);
	RUN(half_released_then_destroyed);
	RUN(region_removed_and_added);
	RUN(calls_on_released_memory);
	RUN(beside_other_memory);
	RUN(moved);
	RUN(within_the_budget);
	/* The sanitizers map memory of their own at any moment. */
	if (!TEST_ASAN && !TEST_TSAN)
		RUN(at_the_limit_of_mappings);
	return 0;
}
