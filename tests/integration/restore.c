/* SPDX-License-Identifier: MIT */
/* Contents of every kind of image arrive, whole and right, under 200 touching threads. */
#include "tests/integration/harness.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define NR_THREADS 200u

static uint64_t nr_pages(void)
{
	/* Not a whole number of blocks. */
	return test_scale(2000, 8000, 130000) + 77;
}

/* A memfd of ours that holds contents, with a hole every @every_zero pages. */
static int filled_memfd(uint64_t pages, uint32_t every_zero)
{
	int fd = memfd_create("contents", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	static _Alignas(8) char buf[PAGE];

	CHECK(fd >= 0 && ftruncate(fd, (off_t)(pages * PAGE)) == 0, "%s", strerror(errno));
	for (uint64_t page = 0; page < pages; page++) {
		if (every_zero && page % every_zero == every_zero - 1)
			continue;
		contents_of(1, page, buf);
		CHECK(pwrite(fd, buf, PAGE, (off_t)(page * PAGE)) == (ssize_t)PAGE, "%s",
		      strerror(errno));
	}
	return fd;
}

struct writing {
	struct bed *bed;
	_Atomic uint32_t nr_done;
};

/* Thread i has pages i, i + n, ...: it writes some first, reads some first. */
static void write_part(void *arg, uint32_t index)
{
	struct writing *w = arg;
	struct bed *b = w->bed;
	uint64_t value;

	for (uint64_t page = index; page < b->nr_pages; page += NR_THREADS) {
		bool first = page / NR_THREADS % 2;

		if (!first) {
			CHECK(touch_read(bed_page(b, page) + 8, &value) == TOUCH_OK &&
				      value == word_of(1, page, 1),
			      "page %llu before a write: 0x%llx", (unsigned long long)page,
			      (unsigned long long)value);
		}
		CHECK(touch_write(bed_page(b, page), page << 8) == TOUCH_OK, "page %llu",
		      (unsigned long long)page);
	}
	for (uint64_t page = index; page < b->nr_pages; page += NR_THREADS) {
		CHECK(touch_read(bed_page(b, page), &value) == TOUCH_OK && value == page << 8,
		      "page %llu: own write reads 0x%llx", (unsigned long long)page,
		      (unsigned long long)value);
		/* The rest of a page that was written first is contents too. */
		CHECK(touch_read(bed_page(b, page) + PAGE - 8, &value) == TOUCH_OK &&
			      value == word_of(1, page, 511),
		      "page %llu behind a write: 0x%llx", (unsigned long long)page,
		      (unsigned long long)value);
	}
}

static void write_all(struct bed *b)
{
	struct writing w = { .bed = b };
	struct crew crew;

	STEP("200 threads write and read");
	crew_start(&crew, NR_THREADS, write_part, &w);
	crew_wait(&crew, 60, "threads that write");
}

static void prefilled_read(void)
{
	struct fln_stats s;
	struct bed b;
	int fd;

	bed_init(&b, nr_pages());
	fd = filled_memfd(b.nr_pages, 0);
	b.image_opts.flags = FLN_IMAGE_F_ADOPT | FLN_IMAGE_F_FILLED;
	b.image_opts.memfd = fd;
	bed_up(&b);
	(void)close(fd); /* the image has its own */
	CHECK(fln_image_filled_bytes(b.image) == b.nr_pages * PAGE, "not filled");
	read_all(&b, NR_THREADS);
	settled_stats(b.guest, &s);
	CHECK(s.major == 0, "%llu faults read a source", (unsigned long long)s.major);
	CHECK(s.pages_installed + s.pages_raced >= b.nr_pages, "%llu pages installed",
	      (unsigned long long)s.pages_installed);
	test_note("%llu pages, %llu faults, %llu installs, %llu refaults",
		  (unsigned long long)b.nr_pages, (unsigned long long)s.faults,
		  (unsigned long long)s.installs, (unsigned long long)s.refaults);
	bed_down(&b);
}

static void prefilled_write(void)
{
	struct bed b;

	bed_init(&b, nr_pages());
	b.image_opts.flags = FLN_IMAGE_F_ADOPT | FLN_IMAGE_F_FILLED;
	b.image_opts.memfd = filled_memfd(b.nr_pages, 0);
	bed_up(&b);
	write_all(&b);
	bed_down(&b);
	(void)close(b.image_opts.memfd);
}

/* Filled by fln_image_fill() before anybody touches. */
static void filled_first(void)
{
	struct fln_stats s;
	struct bed b;

	bed_init(&b, nr_pages());
	bed_up(&b);
	STEP("fln_image_fill");
	OK(fln_image_fill(b.image, 0, b.nr_pages * PAGE));
	CHECK(fln_image_filled_bytes(b.image) == b.nr_pages * PAGE, "not filled");
	read_all(&b, NR_THREADS);
	settled_stats(b.guest, &s);
	CHECK(s.major == 0, "%llu faults read the source", (unsigned long long)s.major);
	bed_down(&b);
}

static void lazy_parallel(void)
{
	struct fln_stats s;
	struct bed b;

	bed_init(&b, nr_pages());
	bed_up(&b);
	read_all(&b, NR_THREADS);
	settled_stats(b.guest, &s);
	CHECK(s.major > 0, "no fault read the source");
	CHECK(fln_image_filled_bytes(b.image) == b.nr_pages * PAGE, "%llu bytes filled",
	      (unsigned long long)fln_image_filled_bytes(b.image));
	CHECK(atomic_load(&b.maker.nr_bytes) == b.nr_pages * PAGE,
	      "%llu bytes read for %llu: something was read twice",
	      (unsigned long long)atomic_load(&b.maker.nr_bytes),
	      (unsigned long long)(b.nr_pages * PAGE));
	bed_down(&b);
	CHECK(atomic_load(&b.maker.nr_destroyed) == 1, "the source was destroyed %u times",
	      atomic_load(&b.maker.nr_destroyed));
}

static void lazy_serial(void)
{
	struct bed b;

	bed_init(&b, nr_pages());
	b.maker.concurrency = FLN_SOURCE_SERIAL;
	bed_up(&b);
	read_all(&b, NR_THREADS);
	CHECK(atomic_load(&b.maker.max_inside) == 1, "%u calls of a serial source at a time",
	      atomic_load(&b.maker.max_inside));
	bed_down(&b);
}

static void lazy_write(void)
{
	struct bed b;

	bed_init(&b, nr_pages());
	bed_up(&b);
	write_all(&b);
	bed_down(&b);
}

static void lazy_memory(void)
{
	struct bed b;
	char *contents;

	bed_init(&b, nr_pages());
	contents = malloc(b.nr_pages * PAGE);
	CHECK(contents, "no memory");
	for (uint64_t page = 0; page < b.nr_pages; page++)
		contents_of(1, page, contents + page * PAGE);
	OK(fln_source_from_memory(contents, b.nr_pages * PAGE, &b.source));
	b.image_opts.source = b.source;
	bed_up(&b);
	read_all(&b, NR_THREADS);
	bed_down(&b);
	free(contents);
}

/* A sparse file, behind a header, longer than the image; its holes are zero and not read. */
static void lazy_file(void)
{
	char path[] = "/tmp/faultlane-test-XXXXXX";
	static _Alignas(8) char buf[PAGE];
	uint64_t value;
	struct bed b;
	int fd = mkstemp(path);

	CHECK(fd >= 0, "%s: %s", path, strerror(errno));
	bed_init(&b, nr_pages());
	CHECK(ftruncate(fd, (off_t)((b.nr_pages + 3) * PAGE)) == 0, "%s", strerror(errno));
	for (uint64_t page = 0; page < b.nr_pages; page++) {
		if (page % 64 >= 48)
			continue;
		contents_of(1, page, buf);
		CHECK(pwrite(fd, buf, PAGE, (off_t)((page + 1) * PAGE)) == (ssize_t)PAGE, "%s",
		      strerror(errno));
	}
	OK(fln_source_open_file(path, PAGE, &b.source));
	b.image_opts.source = b.source;
	bed_up(&b);
	STEP("reading the file's pages");
	for (uint64_t page = 0; page < b.nr_pages; page++) {
		uint64_t want = page % 64 >= 48 ? 0 : word_of(1, page, 5);

		CHECK(touch_read(bed_page(&b, page) + 40, &value) == TOUCH_OK && value == want,
		      "page %llu reads 0x%llx", (unsigned long long)page,
		      (unsigned long long)value);
	}
	bed_down(&b);
	(void)close(fd);
	(void)unlink(path);
}

/* Holes of an adopted memfd and of a source are zero, and can be written. */
static void holes(void)
{
	uint64_t value;
	struct bed b;
	int fd;

	for (uint32_t lazy = 0; lazy < 2; lazy++) {
		bed_init(&b, 3000);
		b.maker.every_zero = 5;
		fd = lazy ? -1 : filled_memfd(b.nr_pages, 5);
		if (!lazy) {
			b.image_opts.flags = FLN_IMAGE_F_ADOPT | FLN_IMAGE_F_FILLED;
			b.image_opts.memfd = fd;
		}
		bed_up(&b);
		STEP("reading holes, lazily: %u", lazy);
		for (uint64_t page = 0; page < b.nr_pages; page++) {
			uint64_t want = page % 5 == 4 ? 0 : word_of(1, page, 0);

			CHECK(touch_read(bed_page(&b, page), &value) == TOUCH_OK && value == want,
			      "page %llu reads 0x%llx", (unsigned long long)page,
			      (unsigned long long)value);
			if (page % 10 == 4) {
				CHECK(touch_write(bed_page(&b, page), page) == TOUCH_OK, "write");
				CHECK(touch_read(bed_page(&b, page), &value) == TOUCH_OK &&
					      value == page,
				      "own write of page %llu", (unsigned long long)page);
			}
		}
		bed_down(&b);
		if (fd >= 0)
			(void)close(fd);
	}
}

/* Fixed windows of one page and of a whole block, one shard and many, one worker and several. */
static void shapes(void)
{
	static const uint32_t shape[][4] = {
		{ 1, 1, 1, 1 },
		{ 512, 512, 1, 1 },
		{ 16, 16, 7, 2 },
		{ 1, 512, 32, 3 },
	};
	struct bed b;

	for (uint32_t i = 0; i < sizeof(shape) / sizeof(shape[0]); i++) {
		bed_init(&b, 2100);
		b.guest_opts.window_first = shape[i][0];
		b.guest_opts.window_max = shape[i][1];
		b.guest_opts.nr_shards = shape[i][2];
		b.engine_opts.nr_workers = shape[i][3];
		bed_up(&b);
		CHECK(fln_guest_nr_shards(b.guest) == shape[i][2], "%u shards",
		      fln_guest_nr_shards(b.guest));
		read_all(&b, NR_THREADS);
		bed_down(&b);
	}
}

/* A pool of one chunk: the other blocks are served page by page, and right. */
static void few_chunks(void)
{
	struct fln_stats s;
	struct bed b;

	bed_init(&b, 512 * 24);
	b.region_opts.max_chunks = 1;
	b.guest_opts.window_first = b.guest_opts.window_max = 1;
	bed_up(&b);
	read_all(&b, 64);
	settled_stats(b.guest, &s);
	test_note("%llu of %llu faults without a chunk", (unsigned long long)s.no_chunk,
		  (unsigned long long)s.faults);
	CHECK(s.no_chunk > 0, "the pool was never empty");
	bed_down(&b);
}

/* A touch before the guest is started waits, and is served then. */
static void start_late(void)
{
	struct fln_region_opts region = FLN_REGION_OPTS_INIT;
	struct toucher t;
	struct bed b;

	bed_init(&b, 100);
	bed_up_image(&b);
	OK(fln_guest_create(b.engine, &b.guest_opts, &b.guest));
	region.image = b.image;
	region.len_bytes = b.nr_pages * PAGE;
	OK(fln_region_add(b.guest, &region, &b.region));
	toucher_read(&t, (uint8_t *)fln_region_addr(b.region) + 7 * PAGE);
	toucher_expect_asleep(&t, 50, "a touch before fln_guest_start()");
	bed_up(&b);
	toucher_expect_value(&t, word_of(1, 7, 0), "a touch before fln_guest_start()");
	bed_down(&b);
}

int main(void)
{
	test_init();
	RUN(prefilled_read);
	RUN(prefilled_write);
	RUN(filled_first);
	RUN(lazy_parallel);
	RUN(lazy_serial);
	RUN(lazy_write);
	RUN(lazy_memory);
	RUN(lazy_file);
	RUN(holes);
	RUN(shapes);
	RUN(few_chunks);
	RUN(start_late);
	return 0;
}
