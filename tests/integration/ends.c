/* SPDX-License-Identifier: MIT */
/*
 * What a guest leaves behind stays as it is, whatever the host and others do to the memory:
 * page tables are dropped, ranges discarded, the image written by somebody else.
 */
#include "tests/integration/harness.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define NR_PAGES 4096u
#define LEN (NR_PAGES * PAGE)
#define THP "/sys/kernel/mm/transparent_hugepage/"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

static struct bed bed;

/* A setting of the host, until it is put back.  False: it cannot be changed. */
struct setting {
	const char *path;
	char before[128];
};

static bool set(struct setting *s, const char *path, const char *value)
{
	char line[128], *at;
	FILE *f = fopen(path, "r+e");
	bool done;

	s->path = NULL;
	if (!f)
		return false;
	done = fgets(line, sizeof(line), f) != NULL;
	/* "always [madvise] never", or a number. */
	at = strchr(line, '[');
	(void)sscanf(at ? at + 1 : line, "%100[a-z_0-9]", s->before);
	rewind(f);
	done = done && fputs(value, f) >= 0 && fflush(f) == 0;
	(void)fclose(f);
	if (done)
		s->path = path;
	return done;
}

static void put_back(const struct setting *s)
{
	FILE *f = s->path ? fopen(s->path, "we") : NULL;

	if (!f)
		return;
	(void)fputs(s->before, f);
	(void)fclose(f);
}

/* Filled pages have their contents, all others raise a signal. */
static void look(const uint8_t *p, uint64_t filled_from, uint64_t filled_end)
{
	uint64_t value;

	for (uint64_t page = 0; page < NR_PAGES; page++) {
		enum touch end = touch_read(p + page * PAGE, &value);

		if (page >= filled_from && page < filled_end)
			CHECK(end == TOUCH_OK && value == word_of(1, page, 0),
			      "filled page %llu: the thread %s, 0x%llx", (unsigned long long)page,
			      touch_name(end), (unsigned long long)value);
		else
			CHECK(end == TOUCH_SIGBUS, "page %llu: the thread %s, 0x%llx",
			      (unsigned long long)page, touch_name(end),
			      end == TOUCH_OK ? (unsigned long long)value : 0);
	}
}

static void collapse_beside(enum fln_sharing sharing)
{
	static const char *const names[] = { THP "shmem_enabled",
					     THP "khugepaged/scan_sleep_millisecs",
					     THP "khugepaged/alloc_sleep_millisecs",
					     THP "khugepaged/pages_to_scan" };
	static const char *const values[] = { "advise", "0", "0", "1000000" };
	struct setting settings[4];
	uint8_t *other;

	for (uint32_t i = 0; i < 4; i++) {
		if (!set(&settings[i], names[i], values[i]))
			test_note("%s cannot be set here: without it", names[i]);
	}
	bed_init(&bed, NR_PAGES);
	bed.region_opts.sharing = sharing;
	bed_up(&bed);
	(void)madvise(bed.mem, LEN, MADV_HUGEPAGE);
	OK(fln_image_fill(bed.image, 700 * PAGE, 1500 * PAGE));
	other = mmap(NULL, LEN + (2 << 20), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(other != MAP_FAILED, "mmap: %s", strerror(errno));
	other = (uint8_t *)(((uintptr_t)other + (2 << 20) - 1) & ~((uintptr_t)(2 << 20) - 1));
	other = mmap(other, LEN, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
		     fln_image_memfd(bed.image), 0);
	CHECK(other != MAP_FAILED, "mmap: %s", strerror(errno));
	(void)madvise(other, LEN, MADV_HUGEPAGE);
	STEP("fln_guest_stop");
	OK(fln_guest_stop(bed.guest));
	STEP("collapsing beside it");
	for (uint64_t t0 = now_ns(); now_ns() - t0 < 2000 * MS;) {
		(void)madvise(other, LEN, MADV_COLLAPSE);
		look(bed.mem, 700, 2200);
	}
	STEP("discarding what cannot be read");
	CHECK(madvise(bed.mem, 700 * PAGE, MADV_DONTNEED) == 0, "madvise: %s", strerror(errno));
	look(bed.mem, 700, 2200);
	(void)munmap(other, LEN);
	bed_down(&bed);
	for (uint32_t i = 0; i < 4; i++)
		put_back(&settings[i]);
}

static void page_tables_are_dropped(void)
{
	collapse_beside(FLN_SHARING_SHARED);
	collapse_beside(FLN_SHARING_PRIVATE);
}

/* A clone's pages that it gave up are its own zeros, whatever another guest writes. */
static void a_clone_gives_up(void)
{
	struct fln_region_opts o = FLN_REGION_OPTS_INIT;
	struct fln_guest *clone;
	struct fln_region *region;
	uint64_t value;
	uint8_t *c;

	bed_init(&bed, NR_PAGES);
	bed_up(&bed);
	OK(fln_image_fill(bed.image, 0, LEN));
	OK(fln_guest_create(bed.engine, NULL, &clone));
	o.image = bed.image;
	o.len_bytes = LEN;
	o.sharing = FLN_SHARING_PRIVATE;
	OK(fln_region_add(clone, &o, &region));
	OK(fln_guest_start(clone));
	c = fln_region_addr(region);
	/* Read, given up, and then: not touched, read, or written. */
	for (uint64_t page = 0; page < NR_PAGES; page++)
		CHECK(touch_read(c + page * PAGE, &value) == TOUCH_OK, "a filled page");
	CHECK(madvise(c + 100 * PAGE, 2000 * PAGE, MADV_DONTNEED) == 0, "madvise");
	for (uint64_t page = 600; page < 1000; page++)
		CHECK(touch_read(c + page * PAGE, &value) == TOUCH_OK && value == 0, "0 is due");
	for (uint64_t page = 900; page < 1700; page += 3)
		CHECK(touch_write(c + page * PAGE, page) == TOUCH_OK, "write");
	STEP("fln_guest_stop");
	OK(fln_guest_stop(clone));
	/* The other guest gives its pages up, too, and writes there. */
	CHECK(madvise(bed.mem, LEN, MADV_REMOVE) == 0, "madvise: %s", strerror(errno));
	for (uint64_t page = 0; page < NR_PAGES; page++)
		CHECK(touch_write(bed_page(&bed, page), UINT64_C(0x5ec4e7)) == TOUCH_OK, "write");
	for (uint64_t page = 100; page < 2100; page++) {
		bool own = page >= 900 && page < 1700 && page % 3 == 0;
		enum touch end = touch_read(c + page * PAGE, &value);

		CHECK(end == TOUCH_OK && value == (own ? page : 0),
		      "page %llu: the thread %s, 0x%llx", (unsigned long long)page, touch_name(end),
		      (unsigned long long)value);
		CHECK(touch_write(c + page * PAGE, 1) == TOUCH_OK, "it can be written to");
	}
	OK(fln_guest_destroy(clone));
	CHECK(touch_read(c + 1500 * PAGE, &value) == TOUCH_SIGSEGV, "it is still mapped");
	bed_down(&bed);
}

#define NR_WRITTEN (4 * NR_PAGES)
#define NR_WRITERS 3u
#define APART 8u /* no more runs than mappings allow */

struct writers {
	uint8_t *mem;
	bool must_succeed;
	_Atomic bool stop;
};

/* Can the kernel hold writes to a private mapping of a memfd back? */
static bool can_protect(void)
{
	int fd = memfd_create("protect", MFD_CLOEXEC), uffd = raw_uffd(0);
	bool can;
	void *p;

	CHECK(fd >= 0 && ftruncate(fd, PAGE) == 0, "memfd: %s", strerror(errno));
	p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	CHECK(p != MAP_FAILED, "mmap: %s", strerror(errno));
	can = raw_register(uffd, p, PAGE, UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP) ==
	      0;
	(void)munmap(p, PAGE);
	(void)close(uffd);
	(void)close(fd);
	return can;
}

static void write_here_and_there(void *arg, uint32_t index)
{
	const struct timespec a_little = { .tv_nsec = 20000 };
	struct writers *w = arg;

	for (uint64_t i = index; i < NR_WRITTEN / APART && !atomic_load(&w->stop);
	     i += NR_WRITERS) {
		/* Odd: each once. */
		uint64_t page = i * 40503 % (NR_WRITTEN / APART) * APART;

		/* Before 5.19 it may be a signal, while the zeros are put there. */
		CHECK(touch_write(w->mem + page * PAGE, page) == TOUCH_OK || !w->must_succeed,
		      "page %llu cannot be written to during the stop", (unsigned long long)page);
		(void)nanosleep(&a_little, NULL);
	}
}

/* Runs of zeros are cut by writes while they are gone through. */
static void zeros_are_written_to_during_the_stop(void)
{
	struct writers w = { .must_succeed = can_protect() };
	struct crew crew = { 0 };
	uint64_t value;

	bed_init(&bed, NR_WRITTEN);
	bed.region_opts.sharing = FLN_SHARING_PRIVATE;
	bed_up(&bed);
	CHECK(madvise(bed.mem, NR_WRITTEN * PAGE, MADV_DONTNEED) == 0, "madvise");
	for (uint64_t page = 0; page < NR_WRITTEN; page++)
		CHECK(touch_read(bed_page(&bed, page), &value) == TOUCH_OK && value == 0,
		      "0 is due");
	w.mem = bed.mem;
	crew_start(&crew, NR_WRITERS, write_here_and_there, &w);
	wait_count(&crew.nr_begun, NR_WRITERS, WAIT_S, "writers");
	STEP("fln_guest_stop");
	OK(fln_guest_stop(bed.guest));
	atomic_store(&w.stop, true);
	crew_wait(&crew, WAIT_S, "writers");
	for (uint64_t page = 0; page < NR_WRITTEN; page++) {
		enum touch end = touch_read(bed_page(&bed, page), &value);

		CHECK(end == TOUCH_OK && (value == 0 || (page % APART == 0 && value == page)),
		      "page %llu: the thread %s, 0x%llx", (unsigned long long)page, touch_name(end),
		      end == TOUCH_OK ? (unsigned long long)value : 0);
	}
	bed_down(&bed);
}

/* What was written after it was given up lies over a page that is not filled. */
static void old_bytes_stay_away(void)
{
	struct fln_region_opts o = FLN_REGION_OPTS_INIT;
	int fd = memfd_create("old", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	struct fln_guest *clone;
	struct fln_region *region;
	uint64_t value;
	uint8_t *c;

	CHECK(fd >= 0 && ftruncate(fd, (off_t)LEN) == 0, "memfd: %s", strerror(errno));
	c = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(c != MAP_FAILED, "mmap: %s", strerror(errno));
	memset(c, 0xaa, LEN);
	(void)munmap(c, LEN);
	bed_init(&bed, NR_PAGES);
	maker_source(&bed.maker, &bed.source);
	bed.image_opts.source = bed.source;
	bed.image_opts.flags = FLN_IMAGE_F_ADOPT;
	bed.image_opts.memfd = fd;
	bed_up(&bed);
	OK(fln_image_fill(bed.image, 1000 * PAGE, 500 * PAGE));
	OK(fln_guest_create(bed.engine, NULL, &clone));
	o.image = bed.image;
	o.len_bytes = LEN;
	o.sharing = FLN_SHARING_PRIVATE;
	OK(fln_region_add(clone, &o, &region));
	OK(fln_guest_start(clone));
	c = fln_region_addr(region);
	CHECK(madvise(c + 100 * PAGE, 2000 * PAGE, MADV_DONTNEED) == 0, "madvise");
	for (uint64_t page = 200; page < 1900; page += 1 + page % 3)
		CHECK(touch_write(c + page * PAGE, page) == TOUCH_OK, "write");
	STEP("fln_guest_stop");
	OK(fln_guest_stop(clone));
	for (uint64_t page = 200; page < 1900; page += 1 + page % 3)
		CHECK(touch_read(c + page * PAGE, &value) == TOUCH_OK && value == page, "written");
	CHECK(madvise(c, LEN, MADV_DONTNEED) == 0, "madvise: %s", strerror(errno));
	for (uint64_t page = 100; page < 2100; page++) {
		enum touch end = touch_read(c + page * PAGE, &value);
		bool filled = page >= 1000 && page < 1500;

		CHECK(end == TOUCH_OK && (value == 0 || (filled && value == word_of(1, page, 0))),
		      "page %llu: the thread %s, 0x%llx", (unsigned long long)page, touch_name(end),
		      end == TOUCH_OK ? (unsigned long long)value : 0);
	}
	STEP("the image is filled as ever");
	for (uint64_t page = 0; page < NR_PAGES; page++)
		CHECK(touch_read(bed_page(&bed, page), &value) == TOUCH_OK &&
			      value == word_of(1, page, 0),
		      "page %llu of the image: 0x%llx", (unsigned long long)page,
		      (unsigned long long)value);
	OK(fln_guest_destroy(clone));
	bed_down(&bed);
	(void)close(fd);
}

/* The bed's image, and a mapping of all of it that is the test's own. */
static uint8_t *begin_with_mapping(int flags)
{
	void *p;

	bed_init(&bed, NR_PAGES);
	bed_up_image(&bed);
	p = mmap(NULL, LEN, PROT_READ | PROT_WRITE, flags, fln_image_memfd(bed.image), 0);
	CHECK(p != MAP_FAILED, "mmap: %s", strerror(errno));
	return p;
}

/* What one region has made inaccessible the next one at this place serves. */
static void adopted_again(void)
{
	struct toucher t;
	uint8_t *p;

	p = begin_with_mapping(MAP_SHARED);
	bed.region_opts.addr = (uintptr_t)p;
	bed_up(&bed);
	OK(fln_image_fill(bed.image, 1000 * PAGE, 64 * PAGE));
	OK(fln_region_remove(bed.region));
	look(p, 1000, 1064);
	bed.region_opts.image = bed.image;
	OK(fln_region_add(bed.guest, &bed.region_opts, &bed.region));
	for (uint64_t page = 0; page < NR_PAGES; page += 97) {
		toucher_read(&t, p + page * PAGE);
		toucher_expect_value(&t, word_of(1, page, 0), "a page that is served again");
	}
	bed_down(&bed);
	(void)munmap(p, LEN);
}

/* A region of a guest that has ended goes when its place is another guest's already. */
static void removed_late(void)
{
	struct fln_region_opts o = FLN_REGION_OPTS_INIT;
	struct fln_guest *first;
	struct fln_region *left;
	struct toucher t;
	uint8_t *p;

	p = begin_with_mapping(MAP_SHARED);
	o.image = bed.image;
	o.addr = (uintptr_t)p;
	o.len_bytes = LEN;
	/* Never started: its events are read by nobody, and its end is in two steps. */
	OK(fln_guest_create(bed.engine, NULL, &first));
	OK(fln_region_add(first, &o, &left));
	OK(fln_guest_stop(first));
	bed.region_opts.addr = (uintptr_t)p;
	bed_up(&bed);
	STEP("fln_region_remove");
	OK(fln_region_remove(left));
	for (uint64_t page = 0; page < NR_PAGES; page += 97) {
		toucher_read(&t, p + page * PAGE);
		toucher_expect_value(&t, word_of(1, page, 0), "a page of the other guest's");
	}
	OK(fln_guest_destroy(first));
	bed_down(&bed);
	(void)munmap(p, LEN);
}

/* What a clone reads after a part of it was given up and some of that written to. */
static void expect_clone(const uint8_t *c, bool ended)
{
	uint64_t value;

	for (uint64_t page = 0; page < 2000; page++) {
		uint64_t want = page < 500 ? word_of(1, page, 0) : page == 700 ? 700 : 0;
		enum touch end = touch_read(c + page * PAGE, &value);

		CHECK(end == TOUCH_OK && value == want, "page %llu: the thread %s, 0x%llx",
		      (unsigned long long)page, touch_name(end),
		      end == TOUCH_OK ? (unsigned long long)value : 0);
	}
	for (uint64_t page = 2000; ended && page < NR_PAGES; page++)
		CHECK(touch_read(c + page * PAGE, &value) == TOUCH_SIGBUS,
		      "page %llu was never filled", (unsigned long long)page);
}

/*
 * The same for a private mapping, in which zeros were put where pages had been given up, and
 * once more by another engine.  What a region makes of it is the image's, all of it; at another
 * offset, or shared, it is refused.
 */
static void private_again(void)
{
	struct fln_region_opts o;
	struct fln_region *r;
	uint64_t value;
	uint8_t *c;

	c = begin_with_mapping(MAP_PRIVATE);
	bed.region_opts.addr = (uintptr_t)c;
	bed.region_opts.sharing = FLN_SHARING_PRIVATE;
	bed.guest_opts.window_max = 1; /* no more is filled than is touched */
	bed.engine_opts.fill_pages = 1;
	bed_up(&bed);
	OK(fln_image_fill(bed.image, 0, 500 * PAGE));
	for (uint32_t round = 0; round < 3; round++) {
		STEP("round %u", round);
		CHECK(madvise(c + 500 * PAGE, 1500 * PAGE, MADV_DONTNEED) == 0, "madvise: %s",
		      strerror(errno));
		CHECK(touch_write(c + 700 * PAGE, 700) == TOUCH_OK, "write");
		for (uint64_t page = 800; page < 900; page++)
			CHECK(touch_read(c + page * PAGE, &value) == TOUCH_OK && value == 0,
			      "0 is due");
		expect_clone(c, false);
		OK(fln_region_remove(bed.region));
		expect_clone(c, true);
		o = bed.region_opts;
		o.image = bed.image;
		o.sharing = FLN_SHARING_SHARED;
		REFUSED(fln_region_add(bed.guest, &o, &r), -EINVAL, test_hex(o.addr));
		o = bed.region_opts;
		o.image = bed.image;
		o.addr += 500 * PAGE;
		o.len_bytes = 100 * PAGE;
		REFUSED(fln_region_add(bed.guest, &o, &r), -EINVAL, test_hex(o.addr));
		expect_clone(c, true);
		bed.region_opts.image = bed.image;
		OK(fln_region_add(bed.guest, &bed.region_opts, &bed.region));
	}
	for (uint64_t page = 0; page < NR_PAGES; page += 97)
		CHECK(touch_read(c + page * PAGE, &value) == TOUCH_OK &&
			      value == word_of(1, page, 0),
		      "page %llu: 0x%llx", (unsigned long long)page, (unsigned long long)value);
	bed_down(&bed);
	(void)munmap(c, LEN);
}

int main(void)
{
	test_init();
	RUN(page_tables_are_dropped);
	RUN(a_clone_gives_up);
	RUN(zeros_are_written_to_during_the_stop);
	RUN(old_bytes_stay_away);
	RUN(adopted_again);
	RUN(removed_late);
	RUN(private_again);
	return 0;
}
