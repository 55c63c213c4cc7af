/* SPDX-License-Identifier: MIT */
/* What a guest does to its memory: giving pages up, moving, unmapping and forking. */
#include "tests/integration/harness.h"
#include "tests/integration/place.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define NR_PAGES 2000u

static struct bed bed;
static struct peer peer;

static void expect(uint64_t page, uint64_t want, const char *what)
{
	struct toucher t;

	toucher_read(&t, bed_page(&bed, page));
	toucher_expect_value(&t, want, what);
}

static void advise(uint64_t page, uint64_t nr, int advice)
{
	CHECK(madvise(bed_page(&bed, page), nr * PAGE, advice) == 0, "madvise: %s",
	      strerror(errno));
}

static void punch(uint64_t page, uint64_t nr)
{
	CHECK(fallocate(fln_image_memfd(bed.image), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			(off_t)(page * PAGE), (off_t)(nr * PAGE)) == 0,
	      "fallocate: %s", strerror(errno));
}

static void begin(uint32_t discard)
{
	bed_init(&bed, NR_PAGES);
	bed.region_opts.discard = discard;
	bed.engine_opts.fill_pages = 1; /* what is not touched is not filled */
	bed.guest_opts.window_first = bed.guest_opts.window_max = 1;
	bed_up(&bed);
}

static void on_filled_pages(void)
{
	begin(FLN_DISCARD_ZERO);
	read_all(&bed, 20);
	CHECK(touch_write(bed_page(&bed, 11), 1234) == TOUCH_OK, "write");
	STEP("MADV_DONTNEED");
	advise(10, 2, MADV_DONTNEED);
	expect(10, word_of(1, 10, 0), "contents after MADV_DONTNEED");
	expect(11, 1234, "an own write after MADV_DONTNEED");
	STEP("MADV_REMOVE");
	advise(20, 600, MADV_REMOVE);
	for (uint64_t page = 20; page < 620; page += 13)
		expect(page, 0, "a page after MADV_REMOVE");
	expect(19, word_of(1, 19, 0), "the page before");
	expect(620, word_of(1, 620, 0), "the page behind");
	CHECK(touch_write(bed_page(&bed, 21), 5) == TOUCH_OK, "write");
	expect(21, 5, "an own write after MADV_REMOVE");
	STEP("punching by the descriptor");
	punch(700, 3);
	expect(701, 0, "a page after a punch");
	expect(703, word_of(1, 703, 0), "the page behind");
	STEP("fln_image_discard");
	OK(fln_image_discard(bed.image, 800 * PAGE, 2 * PAGE));
	expect(801, 0, "a page after fln_image_discard()");
	expect(802, word_of(1, 802, 0), "the page behind");
	bed_down(&bed);
}

static void on_unfilled_pages(void)
{
	/* What was given up is zero, and not read from the source later. */
	begin(FLN_DISCARD_ZERO);
	advise(10, 2, MADV_DONTNEED);
	expect(10, 0, "MADV_DONTNEED of a page that was not filled, discard zero");
	expect(12, word_of(1, 12, 0), "the page behind");
	advise(500, 1000, MADV_REMOVE);
	expect(500, 0, "MADV_REMOVE of a page that was not filled");
	expect(1100, 0, "MADV_REMOVE of a block that was not filled");
	expect(1499, 0, "MADV_REMOVE of a page that was not filled");
	expect(1500, word_of(1, 1500, 0), "the page behind");
	CHECK(touch_write(bed_page(&bed, 501), 5) == TOUCH_OK, "write");
	expect(501, 5, "an own write");
	OK(fln_image_discard(bed.image, 1600 * PAGE, PAGE));
	expect(1600, 0, "fln_image_discard() of a page that was not filled");
	bed_down(&bed);

	/* The image's contents are still due; what was filled follows the page cache. */
	begin(FLN_DISCARD_IMAGE);
	advise(10, 2, MADV_DONTNEED);
	expect(10, word_of(1, 10, 0), "MADV_DONTNEED, discard image");
	advise(500, 1000, MADV_REMOVE);
	expect(501, word_of(1, 501, 0), "MADV_REMOVE of a page not filled, discard image");
	advise(501, 1, MADV_REMOVE);
	expect(501, 0, "MADV_REMOVE of a filled page, discard image");
	punch(10, 1);
	expect(10, 0, "a punched page that was filled");
	OK(fln_image_discard(bed.image, 1600 * PAGE, PAGE));
	expect(1600, 0, "fln_image_discard() of a page that was not filled");
	bed_down(&bed);
}

/* While the page is being filled: zero, whatever the fill brings. */
static void while_filling(void)
{
	struct toucher t[3];

	begin(FLN_DISCARD_ZERO);
	atomic_store(&bed.maker.gate_closed, true);
	for (uint32_t i = 0; i < 3; i++)
		toucher_read(&t[i], bed_page(&bed, i));
	toucher_expect_asleep(&t[0], 50, "the source hangs");
	STEP("discards while pages are being filled");
	advise(0, 1, MADV_REMOVE);
	OK(fln_image_discard(bed.image, PAGE, PAGE));
	atomic_store(&bed.maker.gate_closed, false);
	toucher_expect_value(&t[0], 0, "MADV_REMOVE while filling");
	toucher_expect_value(&t[1], 0, "fln_image_discard() while filling");
	toucher_expect_value(&t[2], word_of(1, 2, 0), "the page behind");
	expect(0, 0, "again");
	expect(1, 0, "again");
	bed_down(&bed);
}

static void by_another_process(void)
{
	begin(FLN_DISCARD_ZERO);
	CHECK(peer_do(&peer, PEER_MAP, 0, NR_PAGES * PAGE, fln_image_memfd(bed.image), NULL,
		      NULL) == 0,
	      "the other process cannot map");
	read_all(&bed, 20);
	CHECK(touch_write(bed_page(&bed, 31), 31) == TOUCH_OK, "write");
	CHECK(peer_do(&peer, PEER_DONTNEED, 30 * PAGE, 2 * PAGE, -1, NULL, NULL) == 0, "DONTNEED");
	expect(30, word_of(1, 30, 0), "another process's MADV_DONTNEED");
	expect(31, 31, "an own write after another process's MADV_DONTNEED");
	CHECK(peer_do(&peer, PEER_REMOVE, 40 * PAGE, 700 * PAGE, -1, NULL, NULL) == 0, "REMOVE");
	expect(40, 0, "another process's MADV_REMOVE");
	expect(739, 0, "another process's MADV_REMOVE");
	expect(740, word_of(1, 740, 0), "the page behind");
	CHECK(peer_do(&peer, PEER_PUNCH, 1000 * PAGE, PAGE, -1, NULL, NULL) == 0, "punch");
	expect(1000, 0, "another process's punch");
	expect(999, word_of(1, 999, 0), "the page before");
	CHECK(touch_write(bed_page(&bed, 1000), 8) == TOUCH_OK, "write");
	expect(1000, 8, "an own write after that");
	bed_down(&bed);
}

/* A part of the caller's own mapping is unmapped: a hole there, the rest as before. */
static void unmapped_part(void)
{
	uint64_t value;
	uint8_t *p;

	bed_init(&bed, NR_PAGES);
	bed_up_image(&bed);
	p = mmap(NULL, NR_PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED,
		 fln_image_memfd(bed.image), 0);
	bed.region_opts.addr = (uintptr_t)p;
	bed_up(&bed);
	expect(50, word_of(1, 50, 0), "before");
	place_keep(p, NR_PAGES * PAGE);
	STEP("munmap of a part");
	CHECK(munmap(p + 3 * PAGE, 5 * PAGE) == 0, "munmap");
	CHECK(munmap(p + 600 * PAGE, 700 * PAGE) == 0, "munmap");
	STEP("touching around the hole");
	for (uint64_t page = 0; page < NR_PAGES; page++) {
		bool hole = (page >= 3 && page < 8) || (page >= 600 && page < 1300);
		enum touch end = touch_read(p + page * PAGE, &value);

		CHECK(end == (hole ? TOUCH_SIGSEGV : TOUCH_OK), "page %llu: the thread %s",
		      (unsigned long long)page, touch_name(end));
		CHECK(hole || value == word_of(1, page, 0), "page %llu reads 0x%llx",
		      (unsigned long long)page, (unsigned long long)value);
	}
	STEP("fln_region_remove");
	OK(fln_region_remove(bed.region));
	bed_down(&bed);
	place_give_back();
}

/* A child does not have the memory. */
static void a_child_does_not_have_it(void)
{
	uint64_t value;
	int status;
	pid_t pid;

	bed_init(&bed, 100);
	bed_up(&bed);
	expect(1, word_of(1, 1, 0), "before");
	pid = fork();
	if (pid == 0)
		_exit(touch_read(bed_page(&bed, 1), &value) == TOUCH_SIGSEGV &&
				      touch_read(bed_page(&bed, 50), &value) == TOUCH_SIGSEGV
			      ? 0
			      : 1);
	CHECK(waitpid(pid, &status, 0) == pid && status == 0, "the child saw the memory (%d)",
	      status);
	expect(50, word_of(1, 50, 0), "after");
	bed_down(&bed);
}

int main(void)
{
	peer_start(&peer);
	test_init();
	RUN(on_filled_pages);
	RUN(on_unfilled_pages);
	RUN(while_filling);
	RUN(by_another_process);
	RUN(unmapped_part);
	RUN(a_child_does_not_have_it);
	peer_stop(&peer);
	return 0;
}
