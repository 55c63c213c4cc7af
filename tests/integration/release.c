/* SPDX-License-Identifier: MIT */
/*
 * Memory that is released from its userfaultfds, by call and by itself, for each kind of region,
 * beside faults, discards and failures.
 */
#include "tests/integration/context_bed.h"
#include "tests/integration/release_bed.h"

#include <linux/userfaultfd.h>
#include <sys/mman.h>
#include <unistd.h>

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
	return 0;
}
