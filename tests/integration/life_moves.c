/* SPDX-License-Identifier: MIT */
/* Memory that mremap() moves about: served, followed, closed and forgotten where it is. */
#include "tests/integration/harness.h"

#include <sys/mman.h>
#include <unistd.h>

#define NR_PAGES 1536u

static struct bed bed;

static uint8_t *reserve(uint64_t nr_pages)
{
	void *p = mmap(NULL, nr_pages * PAGE, PROT_NONE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	CHECK(p != MAP_FAILED, "mmap: %s", strerror(errno));
	return p;
}

static void move(uint8_t *from, uint8_t *to, uint64_t nr_pages)
{
	CHECK(mremap(from, nr_pages * PAGE, nr_pages * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to) ==
		      to,
	      "mremap: %s", strerror(errno));
}

static void expect(uint8_t *at, uint64_t want, const char *what)
{
	struct toucher t;

	toucher_read(&t, at);
	toucher_expect_value(&t, want, what);
}

/* Pages [first, +nr) of the image are at @at: contents or a signal, never anything else. */
static void expect_closed(const uint8_t *at, uint64_t first, uint64_t nr)
{
	uint64_t value, nr_killed = 0;

	for (uint64_t i = 0; i < nr; i++) {
		enum touch end = touch_read(at + i * PAGE, &value);

		CHECK(end == TOUCH_SIGBUS || end == TOUCH_SIGSEGV ||
			      (end == TOUCH_OK && value == word_of(1, first + i, 0)),
		      "page %llu: the thread %s, 0x%llx", (unsigned long long)(first + i),
		      touch_name(end), (unsigned long long)value);
		nr_killed += end != TOUCH_OK;
	}
	CHECK(nr_killed > 0, "pages %llu to %llu are all filled", (unsigned long long)first,
	      (unsigned long long)(first + nr));
}

static void begin(void)
{
	bed_init(&bed, NR_PAGES);
	bed.guest_opts.nr_shards = 1;
	bed.engine_opts.fill_pages = 1;
	bed_up(&bed);
}

/* Moved, a part moved on, a part unmapped; each part is served and closed where it is. */
static void moved_in_parts(void)
{
	uint8_t *a, *b, *c;

	begin();
	a = reserve(600);
	b = reserve(200);
	c = reserve(100);
	expect(bed_page(&bed, 50), word_of(1, 50, 0), "at home");
	STEP("moves");
	move(bed_page(&bed, 40), a, 600); /* 40..640 at a */
	expect(a + 20 * PAGE, word_of(1, 60, 0), "moved");
	move(a + 100 * PAGE, b, 200); /* 140..340 at b */
	expect(b + 7 * PAGE, word_of(1, 147, 0), "moved twice");
	expect(a + 99 * PAGE, word_of(1, 139, 0), "before what moved on");
	expect(a + 300 * PAGE, word_of(1, 340, 0), "behind what moved on");
	move(b + 50 * PAGE, c, 100); /* 190..290 at c */
	expect(c + 3 * PAGE, word_of(1, 193, 0), "moved three times");
	move(c, bed_page(&bed, 190), 100); /* home again */
	expect(bed_page(&bed, 195), word_of(1, 195, 0), "home again");
	STEP("fln_guest_stop");
	OK(fln_guest_stop(bed.guest));
	expect_closed(a, 40, 100);
	expect_closed(a + 300 * PAGE, 340, 300);
	expect_closed(b, 140, 50);
	expect_closed(b + 150 * PAGE, 290, 50);
	expect_closed(bed_page(&bed, 190), 190, 100);
	expect_closed(bed_page(&bed, 640), 640, NR_PAGES - 640);
	bed_down(&bed);
	(void)munmap(a, 600 * PAGE);
	(void)munmap(b, 200 * PAGE);
	(void)munmap(c, 100 * PAGE);
}

/* Where something was moved to, and taken away again, another region begins anew. */
static void another_region_there(void)
{
	struct fln_region_opts o = FLN_REGION_OPTS_INIT;
	struct fln_region *region;
	uint8_t *a, *p;

	begin();
	a = reserve(600);
	move(bed_page(&bed, 40), a, 600);
	expect(a + 20 * PAGE, word_of(1, 60, 0), "moved");
	CHECK(munmap(a, 600 * PAGE) == 0, "munmap");
	p = mmap(a, 600 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
		 fln_image_memfd(bed.image), (off_t)(700 * PAGE));
	CHECK(p == a, "mmap: %s", strerror(errno));
	o.image = bed.image;
	o.image_offset_bytes = 700 * PAGE;
	o.addr = (uintptr_t)a;
	o.len_bytes = 600 * PAGE;
	STEP("fln_region_add where something was moved to");
	OK(fln_region_add(bed.guest, &o, &region));
	expect(a + 20 * PAGE, word_of(1, 720, 0), "the new region");
	STEP("fln_region_remove");
	OK(fln_region_remove(region));
	expect_closed(a, 700, 600);
	bed_down(&bed);
	(void)munmap(a, 600 * PAGE);
}

/* The same, but it was taken away when its region had gone, and nobody told of it. */
static void another_region_there_later(void)
{
	struct fln_region_opts o = FLN_REGION_OPTS_INIT;
	struct fln_region *region;
	struct fln_stats s;
	uint8_t *a, *p;

	begin();
	a = reserve(600);
	move(bed_page(&bed, 40), a, 600);
	expect(a + 20 * PAGE, word_of(1, 60, 0), "moved");
	STEP("fln_region_remove");
	OK(fln_region_remove(bed.region));
	bed.region = NULL;
	p = mmap(a, 600 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
		 fln_image_memfd(bed.image), (off_t)(700 * PAGE));
	CHECK(p == a, "mmap: %s", strerror(errno));
	o.image = bed.image;
	o.image_offset_bytes = 700 * PAGE;
	o.addr = (uintptr_t)a;
	o.len_bytes = 600 * PAGE;
	STEP("fln_region_add where a region that has gone was moved to");
	OK(fln_region_add(bed.guest, &o, &region));
	expect(a + 20 * PAGE, word_of(1, 720, 0), "the new region");
	settled_stats(bed.guest, &s);
	CHECK(s.invalid == 0, "%llu invalid", (unsigned long long)s.invalid);
	OK(fln_guest_stop(bed.guest));
	expect_closed(a, 700, 600);
	bed_down(&bed);
	(void)munmap(a, 600 * PAGE);
}

/* What lies where the region was is the embedder's: neither closed nor unmapped. */
static void something_else_at_home(void)
{
	uint8_t *a, *home;
	uint64_t value;

	begin();
	a = reserve(600);
	home = bed_page(&bed, 40);
	move(home, a, 600);
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
	expect_closed(a, 40, 600);
	bed_down(&bed);
	(void)munmap(a, 600 * PAGE);
	(void)munmap(home, 600 * PAGE);
}

/* The end of a large reserve of address space costs as much as the regions in it. */
static void a_large_reserve(void)
{
	struct fln_region_opts o = FLN_REGION_OPTS_INIT;
	uint64_t room = (uint64_t)1 << 40, t0;
	struct fln_region *region;
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
	expect(p, word_of(1, 0, 0), "contents");
	STEP("munmap of 1 TiB");
	CHECK(munmap(p, room) == 0, "munmap: %s", strerror(errno));
	t0 = cpu_ns();
	expect(bed_page(&bed, 9), word_of(1, 9, 0), "another region");
	t0 = cpu_ns() - t0;
	CHECK(t0 < 1000 * MS, "it took %llu ms of processor time", (unsigned long long)(t0 / MS));
	OK(fln_region_remove(region));
	bed_down(&bed);
}

int main(void)
{
	test_init();
	RUN(moved_in_parts);
	RUN(another_region_there);
	RUN(another_region_there_later);
	RUN(something_else_at_home);
	RUN(a_large_reserve);
	return 0;
}
