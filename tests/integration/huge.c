/* SPDX-License-Identifier: MIT */
/* Regions of huge pages: what 4 KiB regions do, by 2 MiB. */
#include "tests/integration/harness.h"
#include "tests/support/hugepages.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define NR_THREADS 200u
#define PER_BLOCK (BLOCK / PAGE)

static uint32_t nr_blocks; /* that the machine has given us */

static void huge_init(struct bed *b, uint32_t blocks)
{
	CHECK(blocks <= nr_blocks, "%u huge pages are more than the %u there are", blocks,
	      nr_blocks);
	bed_init(b, (uint64_t)blocks * PER_BLOCK);
	b->image_opts.page_bytes = BLOCK;
}

static void expect_contents(const struct bed *b, uint64_t page)
{
	bool right = false;
	enum touch end = touch_page(bed_page(b, page), b->maker.salt, page, &right);

	CHECK(end == TOUCH_OK, "page %llu: the thread %s", (unsigned long long)page,
	      touch_name(end));
	CHECK(right, "page %llu: wrong contents", (unsigned long long)page);
}

static void expect_zero(const struct bed *b, uint64_t page)
{
	uint64_t value = 1;

	for (uint32_t i = 0; i < PAGE / 8; i += 64) {
		CHECK(touch_read(bed_page(b, page) + 8 * i, &value) == TOUCH_OK,
		      "page %llu cannot be read", (unsigned long long)page);
		CHECK(value == 0, "page %llu, word %u: 0x%llx where zero is due",
		      (unsigned long long)page, i, (unsigned long long)value);
	}
}

/* Every word of the memory by 200 threads; pages are mapped whole and once. */
static void all_of_it(void)
{
	struct fln_stats s = FLN_STATS_INIT;
	struct bed b;

	huge_init(&b, nr_blocks);
	bed_up(&b);
	read_all(&b, NR_THREADS);
	settled_stats(b.guest, &s);
	CHECK(s.pages_installed + s.pages_raced >= b.nr_pages, "%llu pages were mapped of %llu",
	      (unsigned long long)s.pages_installed, (unsigned long long)b.nr_pages);
	CHECK(s.pages_installed % PER_BLOCK == 0, "%llu pages were mapped: not whole huge pages",
	      (unsigned long long)s.pages_installed);
	CHECK(s.major > 0 && s.poisoned == 0 && s.failed == 0,
	      "%llu major, %llu poisoned, %llu failed", (unsigned long long)s.major,
	      (unsigned long long)s.poisoned, (unsigned long long)s.failed);
	CHECK(fln_image_filled_bytes(b.image) == b.nr_pages * PAGE, "%llu bytes are filled",
	      (unsigned long long)fln_image_filled_bytes(b.image));
	bed_down(&b);
}

/* The source takes its time: threads wait for their page and for no other. */
static void slow_source(void)
{
	struct bed b;

	huge_init(&b, nr_blocks < 64 ? nr_blocks : 64);
	b.maker.delay_ns = 4 * MS;
	bed_up(&b);
	read_all(&b, NR_THREADS);
	bed_down(&b);
}

/* Holes of 4 KiB within huge pages that have contents, too. */
static void small_holes(void)
{
	struct bed b;

	huge_init(&b, 8);
	b.maker.every_zero = 7;
	bed_up(&b);
	for (uint64_t page = 0; page < b.nr_pages; page++) {
		if (page % 7 == 6)
			expect_zero(&b, page);
		else
			expect_contents(&b, page);
	}
	OK(fln_guest_stop(b.guest));
	expect_zero(&b, 6);
	expect_contents(&b, 7);
	bed_down(&b);
}

/* All of it is a hole: there is nothing to read, and zeros are mapped. */
static void nothing_but_holes(void)
{
	struct fln_stats s = FLN_STATS_INIT;
	struct bed b;

	huge_init(&b, 4);
	b.maker.every_zero = 1;
	bed_up(&b);
	CHECK(touch_write(bed_page(&b, 3), 17) == TOUCH_OK, "a hole cannot be written");
	for (uint64_t page = 0; page < b.nr_pages; page += 17) {
		if (page != 3)
			expect_zero(&b, page);
	}
	settled_stats(b.guest, &s);
	CHECK(s.zero >= 4 && s.major <= s.faults, "%llu of %llu faults were zeros",
	      (unsigned long long)s.zero, (unsigned long long)s.faults);
	CHECK(atomic_load(&b.maker.nr_reads) == 0, "holes were read from the source");
	bed_down(&b);
}

static void make_pushed(struct bed *b, uint32_t blocks)
{
	huge_init(b, blocks);
	OK(fln_engine_create(&b->engine_opts, &b->engine));
	OK(fln_engine_start(b->engine));
	OK(fln_image_create(b->engine, &b->image_opts, &b->image));
	bed_up(b);
}

static void put_page(struct bed *b, uint64_t page)
{
	uint64_t words[PAGE / 8];

	contents_of(b->maker.salt, page, words);
	OK(fln_image_put(b->image, page * PAGE, words, PAGE));
}

/* Contents are pushed by 4 KiB; a huge page is mapped when the last of them has come. */
static void put_in_pieces(void)
{
	struct toucher first, last;
	struct bed b;
	char *buf = malloc(BLOCK);

	CHECK(buf, "no memory");
	make_pushed(&b, 4);
	toucher_read(&first, bed_page(&b, 0));
	toucher_read(&last, bed_page(&b, PER_BLOCK - 1));
	STEP("pushing a huge page by its parts");
	for (uint64_t i = 0; i < PER_BLOCK; i++) {
		uint64_t page = i * 7 % PER_BLOCK;

		if (i == PER_BLOCK - 1)
			toucher_expect_asleep(&first, 50, "a huge page of which a part is missing");
		put_page(&b, page);
	}
	toucher_expect_value(&first, word_of(b.maker.salt, 0, 0), "the first page");
	toucher_expect_value(&last, word_of(b.maker.salt, PER_BLOCK - 1, 0), "the last page");
	for (uint64_t page = 0; page < PER_BLOCK; page++)
		expect_contents(&b, page);
	STEP("pushing the others as a whole");
	for (uint64_t block = 1; block < 4; block++) {
		for (uint64_t i = 0; i < PER_BLOCK; i++)
			contents_of(b.maker.salt, block * PER_BLOCK + i, buf + i * PAGE);
		OK(fln_image_put(b.image, block * BLOCK, buf, BLOCK));
		memset(buf, 0x55, BLOCK);
		OK(fln_image_put(b.image, block * BLOCK, buf, BLOCK)); /* the first contents win */
	}
	for (uint64_t page = PER_BLOCK; page < b.nr_pages; page++)
		expect_contents(&b, page);
	free(buf);
	bed_down(&b);
}

struct failing {
	struct maker maker;
	uint64_t bad_page;
};

static int64_t failing_read(void *ctx, uint64_t offset_bytes, void *buf, uint64_t len_bytes)
{
	struct failing *f = ctx;
	uint64_t page = offset_bytes / PAGE;

	if (f->bad_page >= page && f->bad_page < page + len_bytes / PAGE)
		return -EIO;
	for (uint64_t at = 0; at < len_bytes; at += PAGE)
		contents_of(f->maker.salt, page + at / PAGE, (char *)buf + at);
	return (int64_t)len_bytes;
}

/* 4 KiB that fail poison their huge page, and no other. */
static void a_page_that_fails(void)
{
	static struct failing f = { .maker.salt = 1, .bad_page = PER_BLOCK + 77 };
	struct fln_source_ops ops = {
		.size = sizeof(ops),
		.name = "failing",
		.concurrency = FLN_SOURCE_PARALLEL,
		.read = failing_read,
	};
	struct fln_stats s = FLN_STATS_INIT;
	struct toucher t[16];
	struct bed b;

	huge_init(&b, 4);
	b.engine_opts.source_retries = 1;
	OK(fln_source_create(&ops, &f, &b.source));
	b.image_opts.source = b.source;
	bed_up(&b);
	for (uint32_t i = 0; i < 16; i++)
		toucher_read(&t[i], bed_page(&b, PER_BLOCK + i * 32));
	for (uint32_t i = 0; i < 16; i++)
		toucher_expect(&t[i], TOUCH_SIGBUS, "a huge page that has failed");
	for (uint64_t page = 0; page < b.nr_pages; page++) {
		if (page / PER_BLOCK != 1)
			expect_contents(&b, page);
	}
	settled_stats(b.guest, &s);
	CHECK(s.poisoned > 0, "nobody was poisoned");
	CHECK(log_names(&b.log, FLN_LOG_ERROR, test_hex((uintptr_t)bed_page(&b, PER_BLOCK))),
	      "nothing was said");
	OK(fln_guest_stop(b.guest));
	CHECK(touch_read(bed_page(&b, PER_BLOCK), &(uint64_t){ 0 }) == TOUCH_SIGBUS,
	      "a page that failed can be read after the stop");
	bed_down(&b);
}

/* What is not filled when the guest stops is unreadable, and no zeros. */
static void stop_with_unfilled(void)
{
	struct toucher t[8];
	struct bed b;
	uint64_t value;

	make_pushed(&b, 8);
	for (uint64_t i = 0; i < 8; i++)
		toucher_read(&t[i], bed_page(&b, i * PER_BLOCK + i));
	for (uint64_t page = 0; page < PER_BLOCK; page++)
		put_page(&b, page);
	/* Half of another: that is not enough. */
	for (uint64_t page = PER_BLOCK; page < PER_BLOCK + PER_BLOCK / 2; page++)
		put_page(&b, page);
	OK(fln_image_discard(b.image, 2 * BLOCK, BLOCK));
	toucher_expect_value(&t[0], word_of(b.maker.salt, 0, 0), "what is filled");
	toucher_expect_value(&t[2], 0, "what was given up");
	toucher_expect_asleep(&t[1], 20, "what is half filled");
	STEP("fln_guest_stop");
	OK(fln_guest_stop(b.guest));
	for (uint64_t i = 1; i < 8; i++) {
		if (i != 2)
			toucher_expect(&t[i], TOUCH_SIGBUS,
				       "a thread that waits for what is not filled");
	}
	for (uint64_t page = 0; page < b.nr_pages; page += 61) {
		enum touch end = touch_read(bed_page(&b, page), &value);
		bool filled = page / PER_BLOCK == 0 || page / PER_BLOCK == 2;

		CHECK(end == (filled ? TOUCH_OK : TOUCH_SIGBUS), "page %llu: the thread %s",
		      (unsigned long long)page, touch_name(end));
	}
	bed_down(&b);
}

static int make_hugetlb(uint32_t blocks)
{
	int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_HUGETLB | (21U << 26));

	CHECK(fd >= 0, "memfd_create: %s", strerror(errno));
	CHECK(ftruncate(fd, (off_t)(blocks * BLOCK)) == 0, "ftruncate: %s", strerror(errno));
	return fd;
}

/* Somebody else's hugetlb, filled, with holes, and mapped by the embedder itself. */
static void adopted(void)
{
	struct fln_stats s = FLN_STATS_INIT;
	int fd = make_hugetlb(6);
	struct bed b;
	uint8_t *mem, *mine;

	mem = mmap(NULL, 6 * BLOCK, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
	CHECK(mem != MAP_FAILED, "mmap: %s", strerror(errno));
	for (uint64_t page = 0; page < 6 * PER_BLOCK; page++) {
		if (page / PER_BLOCK % 2 == 0)
			contents_of(1, page, mem + page * PAGE);
	}
	huge_init(&b, 6);
	b.image_opts.page_bytes = 0; /* its own */
	b.image_opts.flags = FLN_IMAGE_F_ADOPT | FLN_IMAGE_F_FILLED;
	b.image_opts.memfd = fd;
	/* All of it but the first page. */
	mine = mem + BLOCK;
	b.region_opts.addr = (uint64_t)(uintptr_t)mine;
	b.region_opts.image_offset_bytes = BLOCK;
	b.region_opts.len_bytes = 5 * BLOCK;
	b.region_opts.page_bytes = BLOCK;
	bed_up(&b);
	b.mem = mem;
	for (uint64_t page = PER_BLOCK; page < b.nr_pages; page++) {
		if (page / PER_BLOCK % 2 == 0)
			expect_contents(&b, page);
		else
			expect_zero(&b, page);
	}
	settled_stats(b.guest, &s);
	CHECK(s.zero > 0 && s.minor > 0, "%llu zero, %llu minor", (unsigned long long)s.zero,
	      (unsigned long long)s.minor);
	STEP("a part of a huge page is given up");
	CHECK(madvise(bed_page(&b, 2 * PER_BLOCK), PAGE, MADV_REMOVE) == 0, "MADV_REMOVE: %s",
	      strerror(errno));
	expect_contents(&b, 2 * PER_BLOCK + 1);
	STEP("a whole one is given up");
	CHECK(madvise(bed_page(&b, 4 * PER_BLOCK), BLOCK, MADV_REMOVE) == 0, "MADV_REMOVE: %s",
	      strerror(errno));
	expect_zero(&b, 4 * PER_BLOCK);
	expect_zero(&b, 4 * PER_BLOCK + 511);
	bed_down(&b);
	(void)munmap(mem, 6 * BLOCK);
	(void)close(fd);
}

/* One guest, 4 KiB and 2 MiB. */
static void mixed_guest(void)
{
	struct fln_image_opts small = FLN_IMAGE_OPTS_INIT;
	struct fln_region_opts region_opts = FLN_REGION_OPTS_INIT;
	struct fln_source *source;
	struct fln_image *image;
	struct fln_region *region;
	struct maker maker = { .salt = 2, .concurrency = FLN_SOURCE_PARALLEL };
	struct bed b, view = { .nr_pages = 16 * PER_BLOCK, .maker.salt = 2 };

	huge_init(&b, 16);
	bed_up(&b);
	maker_source(&maker, &source);
	small.len_bytes = 16 * BLOCK;
	small.source = source;
	OK(fln_image_create(b.engine, &small, &image));
	region_opts.image = image;
	region_opts.len_bytes = 16 * BLOCK;
	OK(fln_region_add(b.guest, &region_opts, &region));
	view.mem = fln_region_addr(region);
	read_all(&view, NR_THREADS);
	read_all(&b, NR_THREADS);
	OK(fln_region_remove(region));
	read_all(&b, 4);
	OK(fln_image_destroy(image));
	fln_source_destroy(source);
	bed_down(&b);
}

/* Populated, given back to be asked for anew, and whole from the beginning. */
static void ranges(void)
{
	struct fln_residency sum = FLN_RESIDENCY_INIT;
	struct fln_stats s = FLN_STATS_INIT;
	uint64_t addr, collapsed = 0;
	struct bed b;

	huge_init(&b, 8);
	b.maker.every_zero = 0;
	bed_up(&b);
	addr = (uint64_t)(uintptr_t)b.mem;
	STEP("populating a part of a huge page");
	OK(fln_guest_populate(b.guest, addr + 3 * PAGE, 5 * PAGE, NULL));
	OK(fln_guest_residency(b.guest, addr, 8 * BLOCK, NULL, &sum));
	CHECK(sum.nr_pages[FLN_RESIDENCY_PRESENT] == PER_BLOCK, "%llu pages are mapped",
	      (unsigned long long)sum.nr_pages[FLN_RESIDENCY_PRESENT]);
	STEP("populating all of it");
	OK(fln_guest_populate(b.guest, addr, 8 * BLOCK, NULL));
	OK(fln_guest_residency(b.guest, addr, 8 * BLOCK, NULL, &sum));
	CHECK(sum.nr_pages[FLN_RESIDENCY_PRESENT] == b.nr_pages, "%llu pages are mapped",
	      (unsigned long long)sum.nr_pages[FLN_RESIDENCY_PRESENT]);
	OK(fln_guest_collapse(b.guest, addr, 8 * BLOCK, &collapsed));
	CHECK(collapsed == 8, "%llu blocks are large", (unsigned long long)collapsed);
	settled_stats(b.guest, &s);
	CHECK(s.faults == 0 && s.populated == b.nr_pages, "%llu faults, %llu pages populated",
	      (unsigned long long)s.faults, (unsigned long long)s.populated);
	for (uint64_t page = 0; page < b.nr_pages; page++)
		expect_contents(&b, page);
	settled_stats(b.guest, &s);
	CHECK(s.faults == 0, "%llu faults after populate", (unsigned long long)s.faults);
	STEP("DONTNEED");
	OK(fln_guest_advise(b.guest, addr + BLOCK, BLOCK, FLN_ADVICE_DONTNEED));
	expect_contents(&b, PER_BLOCK + 1);
	REFUSED(fln_guest_advise(b.guest, addr + BLOCK, PAGE, FLN_ADVICE_DONTNEED), -EINVAL,
		"2097152");
	REFUSED(fln_guest_advise(b.guest, addr + PAGE, BLOCK - PAGE, FLN_ADVICE_DONTNEED), -EINVAL,
		"2097152");
	bed_down(&b);
}

static void expect_parts(const struct bed *b, enum fln_residency_state state, const char *when)
{
	static const struct {
		uint32_t first, nr;
	} parts[] = { { 0, 512 }, { 2, 100 }, { 511, 1 }, { 0, 1 }, { 300, 424 } };
	uint8_t vec[512];

	for (uint32_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		struct fln_residency sum = FLN_RESIDENCY_INIT;

		OK(fln_guest_residency(b->guest,
				       (uint64_t)(uintptr_t)b->mem + parts[i].first * PAGE,
				       parts[i].nr * PAGE, vec, &sum));
		CHECK(sum.nr_pages[state] == parts[i].nr && vec[0] == state &&
			      vec[parts[i].nr - 1] == state,
		      "%s: of %u pages from %u on %llu are in state %u, the first is in %u", when,
		      parts[i].nr, parts[i].first, (unsigned long long)sum.nr_pages[state], state,
		      vec[0]);
	}
}

/* madvise() returns when its event has been read, and a worker acts upon it after that. */
static void wait_unmapped(const struct bed *b, uint64_t nr_pages)
{
	uint64_t end = now_ns() + WAIT_S * 1000 * MS;

	for (;;) {
		struct fln_residency sum = FLN_RESIDENCY_INIT;

		OK(fln_guest_residency(b->guest, (uint64_t)(uintptr_t)b->mem, nr_pages * PAGE, NULL,
				       &sum));
		if (sum.nr_pages[FLN_RESIDENCY_PRESENT] == 0)
			return;
		CHECK(now_ns() < end, "what was given up: %llu pages are mapped still",
		      (unsigned long long)sum.nr_pages[FLN_RESIDENCY_PRESENT]);
		sleep_ms(1);
	}
}

/* A huge page is in one state, whichever part of it is asked about. */
static void residency_of_parts(void)
{
	char *buf = malloc(2 * BLOCK);
	struct bed b;

	CHECK(buf, "no memory");
	memset(buf, 'x', 2 * BLOCK);
	make_pushed(&b, 2);
	expect_parts(&b, FLN_RESIDENCY_ABSENT, "at first");
	OK(fln_image_put(b.image, 0, buf, 2 * BLOCK));
	expect_parts(&b, FLN_RESIDENCY_FILLED, "filled");
	OK(fln_guest_populate(b.guest, (uint64_t)(uintptr_t)b.mem, 2 * BLOCK, NULL));
	expect_parts(&b, FLN_RESIDENCY_PRESENT, "populated");
	CHECK(madvise(b.mem, 2 * BLOCK, MADV_REMOVE) == 0, "madvise: %s", strerror(errno));
	wait_unmapped(&b, 2 * PER_BLOCK);
	expect_parts(&b, FLN_RESIDENCY_FILLED, "given up");
	bed_down(&b);
	free(buf);
}

static int not_for_ever(void *ctx, uint64_t done_bytes, uint64_t len_bytes)
{
	(void)done_bytes;
	(void)len_bytes;
	return ++*(uint32_t *)ctx > 100;
}

/* A page went silently; a part of it is populated: as a whole it comes back, as zeros. */
static void part_of_a_page_that_went(void)
{
	struct fln_populate_opts opts = FLN_POPULATE_OPTS_INIT;
	uint32_t nr_calls = 0;
	uint64_t addr;
	struct bed b;

	huge_init(&b, 4);
	bed_up(&b);
	addr = (uint64_t)(uintptr_t)fln_region_addr(b.region);
	opts.interval_ns = 100 * MS;
	opts.progress = not_for_ever;
	opts.progress_ctx = &nr_calls;
	OK(fln_guest_populate(b.guest, addr, 4 * BLOCK, NULL));
	OK(fln_image_discard(b.image, BLOCK, BLOCK));
	OK(fln_guest_populate(b.guest, addr + BLOCK, PAGE, &opts));
	expect_zero(&b, 512);
	expect_zero(&b, 1023);
	expect_contents(&b, 1024);
	bed_down(&b);
}

/* Huge pages leave their userfaultfd as blocks do; a hole of a reserved image, too. */
static void released(void)
{
	struct fln_release_report r = FLN_RELEASE_REPORT_INIT;
	struct fln_stats s = FLN_STATS_INIT;
	struct bed b;

	huge_init(&b, 8);
	bed_up(&b);
	OK(fln_image_fill(b.image, 0, 3 * BLOCK));
	CHECK(madvise(bed_page(&b, 4 * PER_BLOCK), BLOCK, MADV_REMOVE) == 0, "madvise");
	OK(fln_guest_release(b.guest, &r));
	CHECK(r.released_bytes == 4 * BLOCK && r.unfilled_bytes == 4 * BLOCK,
	      "%llu released, %llu unfilled", (unsigned long long)r.released_bytes,
	      (unsigned long long)r.unfilled_bytes);
	expect_contents(&b, 2 * PER_BLOCK + 5);
	expect_zero(&b, 4 * PER_BLOCK + 5);
	OK(fln_guest_stats(b.guest, &s));
	CHECK(s.faults == 0, "%llu faults", (unsigned long long)s.faults);
	CHECK(madvise(bed_page(&b, 0), BLOCK, MADV_REMOVE) == 0, "madvise");
	expect_zero(&b, 5);
	expect_contents(&b, 6 * PER_BLOCK);
	OK(fln_image_fill(b.image, 0, b.nr_pages * PAGE));
	OK(fln_guest_release(b.guest, &r));
	CHECK(r.released_bytes == b.nr_pages * PAGE, "%llu released",
	      (unsigned long long)r.released_bytes);
	expect_contents(&b, 7 * PER_BLOCK);
	bed_down(&b);
}

int main(void)
{
	const char *why;

	nr_blocks = test_scale(32, TEST_TSAN || TEST_ASAN ? 64 : 512, 512);
	why = hugepages_take(nr_blocks);
	if (why)
		test_skip("%s", why);
	test_init();
	RUN(all_of_it);
	RUN(slow_source);
	RUN(small_holes);
	RUN(nothing_but_holes);
	RUN(put_in_pieces);
	RUN(a_page_that_fails);
	RUN(stop_with_unfilled);
	RUN(adopted);
	RUN(mixed_guest);
	RUN(ranges);
	RUN(residency_of_parts);
	RUN(part_of_a_page_that_went);
	RUN(released);
	if (test_engine_flags() == 0)
		return 0;
}
