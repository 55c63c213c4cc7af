/* SPDX-License-Identifier: MIT */
/*
 * Adopted memfds that have bytes in them: firmware, or what a guest had before its reset.
 * Nobody reads them: what the source calls a hole, and what is given up unfilled, is zero.
 */
#include "tests/integration/harness.h"
#include "tests/support/hugepages.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define NR_PAGES 2048u
#define EVERY_ZERO 7u
#define NR_HUGE 4u

static bool have_huge;

/* A memfd full of bytes that are nobody's contents. */
static int rubbish(uint64_t len, bool huge)
{
	int fd = memfd_create("rubbish", MFD_CLOEXEC | MFD_ALLOW_SEALING |
						 (huge ? MFD_HUGETLB | (21u << 26) : 0));
	void *p;

	CHECK(fd >= 0 && ftruncate(fd, (off_t)len) == 0, "memfd: %s", strerror(errno));
	p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(p != MAP_FAILED, "mmap: %s", strerror(errno));
	memset(p, 0xaa, len);
	(void)munmap(p, len);
	return fd;
}

static void begin(struct bed *b, uint64_t nr_pages, bool huge)
{
	bed_init(b, nr_pages);
	b->maker.every_zero = EVERY_ZERO;
	maker_source(&b->maker, &b->source);
	b->image_opts.source = b->source;
	b->image_opts.flags = FLN_IMAGE_F_ADOPT;
	b->image_opts.memfd = rubbish(nr_pages * PAGE, huge);
}

static void end(struct bed *b)
{
	bed_down(b);
	(void)close(b->image_opts.memfd);
}

static uint64_t due(uint64_t page)
{
	return page % EVERY_ZERO == EVERY_ZERO - 1 ? 0 : word_of(1, page, 0);
}

static void expect(uint8_t *mem, uint64_t page, uint64_t want, const char *what)
{
	uint64_t value = 1;
	enum touch t = touch_read(mem + page * PAGE, &value);

	CHECK(t == TOUCH_OK && value == want,
	      "%s: page %llu: the thread %s, 0x%llx instead of 0x%llx", what,
	      (unsigned long long)page, touch_name(t), (unsigned long long)value,
	      (unsigned long long)want);
}

static void holes(enum fln_sharing sharing, uint32_t window)
{
	struct bed b;

	begin(&b, NR_PAGES, false);
	b.region_opts.sharing = sharing;
	b.guest_opts.window_first = window;
	bed_up(&b);
	for (uint64_t page = 0; page < NR_PAGES; page++)
		expect(b.mem, page, due(page), "a hole of the source");
	end(&b);
}

static void holes_of_the_source(void)
{
	holes(FLN_SHARING_SHARED, 0);
	holes(FLN_SHARING_SHARED, 512);
	holes(FLN_SHARING_PRIVATE, 0);
	holes(FLN_SHARING_PRIVATE, 512);
}

/* By populate, and by the embedder. */
static void filled_in_other_ways(void)
{
	struct bed b;

	begin(&b, NR_PAGES, false);
	bed_up(&b);
	OK(fln_image_fill(b.image, 100 * PAGE, 700 * PAGE));
	OK(fln_guest_populate(b.guest, (uintptr_t)b.mem, NR_PAGES * PAGE, NULL));
	for (uint64_t page = 0; page < NR_PAGES; page++)
		expect(b.mem, page, due(page), "populated");
	end(&b);
}

static void given_up(enum fln_sharing sharing, int advice)
{
	struct bed b;

	begin(&b, NR_PAGES, false);
	b.region_opts.sharing = sharing;
	bed_up(&b);
	atomic_store(&b.maker.gate_closed, true);
	CHECK(madvise(bed_page(&b, 40), 1000 * PAGE, advice) == 0, "madvise: %s", strerror(errno));
	for (uint64_t page = 40; page < 1040; page++)
		expect(b.mem, page, 0, "given up before it was filled");
	atomic_store(&b.maker.gate_closed, false);
	for (uint64_t page = 0; page < NR_PAGES; page++)
		expect(b.mem, page, page >= 40 && page < 1040 ? 0 : due(page), "in the end");
	end(&b);
}

static void given_up_unfilled(void)
{
	given_up(FLN_SHARING_SHARED, MADV_DONTNEED);
	given_up(FLN_SHARING_SHARED, MADV_REMOVE);
	given_up(FLN_SHARING_PRIVATE, MADV_DONTNEED);
}

struct race {
	struct bed *bed;
	uint8_t *other; /* the same image in another guest */
	_Atomic uint64_t at;
};

/*
 * One guest gives pages up; the other touches them at once, and writes.  It reads contents
 * or zero, and what it has written stays.
 */
static void write_behind(void *arg, uint32_t index)
{
	struct race *race = arg;
	uint64_t page, value = 0;

	while ((page = atomic_fetch_add(&race->at, 1)) < NR_PAGES) {
		uint8_t *p = race->other + page * PAGE;

		if (index % 2 == 0) {
			(void)madvise(bed_page(race->bed, page), PAGE, MADV_DONTNEED);
			CHECK(touch_read(p, &value) == TOUCH_OK, "page %llu",
			      (unsigned long long)page);
			CHECK(value == 0 || value == due(page), "page %llu reads 0x%llx",
			      (unsigned long long)page, (unsigned long long)value);
		}
		CHECK(touch_write(p + 8, page + 1) == TOUCH_OK, "page %llu",
		      (unsigned long long)page);
		expect(p + 8, 0, page + 1, "written");
	}
}

static void seen_by_another_guest(void)
{
	struct fln_guest_opts go = FLN_GUEST_OPTS_INIT;
	struct fln_region_opts ro = FLN_REGION_OPTS_INIT;
	struct race race;
	struct fln_guest *guest;
	struct fln_region *region;
	struct crew crew;
	struct bed b;

	begin(&b, NR_PAGES, false);
	bed_up(&b);
	OK(fln_guest_create(b.engine, &go, &guest));
	ro.image = b.image;
	ro.len_bytes = NR_PAGES * PAGE;
	OK(fln_region_add(guest, &ro, &region));
	OK(fln_guest_start(guest));
	race = (struct race){ .bed = &b, .other = fln_region_addr(region) };
	crew_start(&crew, 8, write_behind, &race);
	crew_wait(&crew, 60, "threads that touch what is given up");
	for (uint64_t page = 0; page < NR_PAGES; page++)
		expect(b.mem + 8, page, page + 1, "written by the other guest");
	OK(fln_guest_stop(guest));
	fln_guest_destroy(guest);
	end(&b);
}

static void parts_of_huge_pages(void)
{
	struct bed b;

	if (!have_huge) {
		test_note("no huge pages: skipped");
		return;
	}
	begin(&b, NR_HUGE * (BLOCK / PAGE), true);
	bed_up(&b);
	/* The second is given up as a whole, before anybody has asked for it. */
	CHECK(madvise(bed_page(&b, 512), BLOCK, MADV_REMOVE) == 0, "madvise: %s", strerror(errno));
	for (uint64_t page = 0; page < b.nr_pages; page++)
		expect(b.mem, page, page / 512 == 1 ? 0 : due(page), "a part of a huge page");
	end(&b);
}

int main(void)
{
	have_huge = hugepages_take(NR_HUGE) == NULL;
	test_init();
	RUN(holes_of_the_source);
	RUN(filled_in_other_ways);
	RUN(given_up_unfilled);
	RUN(seen_by_another_guest);
	RUN(parts_of_huge_pages);
	return 0;
}
