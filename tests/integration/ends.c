/* SPDX-License-Identifier: MIT */
/*
 * What a guest leaves behind stays as it is, whatever the host and others do to the memory:
 * page tables are dropped, ranges discarded, the image written by somebody else.
 */
#include "tests/integration/harness.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
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
			CHECK(end == TOUCH_SIGSEGV, "page %llu: the thread %s, 0x%llx",
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

/* What one region has made inaccessible the next one at this place serves. */
static void adopted_again(void)
{
	struct toucher t;
	uint8_t *p;

	bed_init(&bed, NR_PAGES);
	OK(fln_engine_create(&bed.engine_opts, &bed.engine));
	OK(fln_engine_start(bed.engine));
	maker_source(&bed.maker, &bed.source);
	bed.image_opts.source = bed.source;
	OK(fln_image_create(bed.engine, &bed.image_opts, &bed.image));
	p = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, fln_image_memfd(bed.image), 0);
	CHECK(p != MAP_FAILED, "mmap: %s", strerror(errno));
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

int main(void)
{
	test_init();
	RUN(page_tables_are_dropped);
	RUN(a_clone_gives_up);
	RUN(adopted_again);
	return 0;
}
