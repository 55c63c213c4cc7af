/* SPDX-License-Identifier: MIT */
/* Regions of huge pages whose threads resolve their own faults. */
#include "tests/integration/context_bed.h"
#include "tests/support/hugepages.h"

#include <fcntl.h>

#define PER_BLOCK (BLOCK / PAGE)
#define NR_BLOCKS 50u /* a multiple of THREADS pages: 50 × 512 = 128 × 200 */

static void huge_context_init(struct bed *b, uint64_t blocks)
{
	bed_init(b, blocks * PER_BLOCK);
	b->image_opts.page_bytes = BLOCK;
}

static void filled(void)
{
	struct fln_stats s = FLN_STATS_INIT;
	struct bed b;

	huge_context_init(&b, NR_BLOCKS);
	context_up(&b, true);
	context_read_all(&b);
	check_stats(b.guest, false, &s);
	CHECK(s.in_context == s.faults && s.minor == s.faults,
	      "%llu faults, %llu in context, %llu minor", (unsigned long long)s.faults,
	      (unsigned long long)s.in_context, (unsigned long long)s.minor);
	CHECK(s.pages_installed + s.pages_raced >= b.nr_pages && s.pages_installed % PER_BLOCK == 0,
	      "%llu pages were mapped", (unsigned long long)s.pages_installed);
	bed_down(&b);
}

static void late(void)
{
	struct fln_stats s = FLN_STATS_INIT;
	struct bed b;

	huge_context_init(&b, 16);
	b.maker.delay_ns = MS;
	b.maker.every_zero = 9;
	/* Contents are told apart below: holes read zero. */
	context_up(&b, false);
	OK(fln_thread_enter());
	for (uint64_t page = 0; page < b.nr_pages; page += 7) {
		uint64_t value = 1;

		CHECK(touch_read(bed_page(&b, page), &value) == TOUCH_OK, "page %llu",
		      (unsigned long long)page);
		CHECK(value == (page % 9 == 8 ? 0 : word_of(b.maker.salt, page, 0)),
		      "page %llu reads 0x%llx", (unsigned long long)page,
		      (unsigned long long)value);
	}
	fln_thread_leave();
	check_stats(b.guest, false, &s);
	CHECK(s.major > 0, "nobody has waited");
	bed_down(&b);
}

/* Given up, wholly or in part; punched behind everybody's back. */
static void discards(void)
{
	uint64_t value = 1;
	struct bed b;

	huge_context_init(&b, 4);
	context_up(&b, true);
	OK(fln_thread_enter());
	context_read(&b, 0);
	context_read(&b, PER_BLOCK);
	OK(fln_image_discard(b.image, 0, BLOCK));
	for (uint64_t page = 0; page < PER_BLOCK; page += 31) {
		CHECK(touch_read(bed_page(&b, page), &value) == TOUCH_OK && value == 0,
		      "page %llu reads 0x%llx after it was given up", (unsigned long long)page,
		      (unsigned long long)value);
	}
	context_read(&b, PER_BLOCK + 5);
	CHECK(fallocate(fln_image_memfd(b.image), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			(off_t)(2 * BLOCK), (off_t)BLOCK) == 0,
	      "punching: %s", strerror(errno));
	CHECK(touch_read(bed_page(&b, 2 * PER_BLOCK + 100), &value) == TOUCH_OK && value == 0,
	      "a hole reads 0x%llx", (unsigned long long)value);
	fln_thread_leave();
	bed_down(&b);
}

/* What is not filled when the guest stops is a SIGBUS. */
static void stopped(void)
{
	uint64_t value;
	struct bed b;

	huge_context_init(&b, 4);
	b.maker.every_zero = 0;
	context_up(&b, false);
	OK(fln_thread_enter());
	OK(fln_image_fill(b.image, 0, BLOCK));
	OK(fln_image_fill(b.image, BLOCK, 3 * PAGE)); /* a part is not enough */
	OK(fln_guest_stop(b.guest));
	context_read(&b, 3);
	for (uint64_t page = PER_BLOCK; page < b.nr_pages; page += 101)
		CHECK(touch_read(bed_page(&b, page), &value) == TOUCH_SIGBUS,
		      "page %llu can be read", (unsigned long long)page);
	fln_thread_leave();
	bed_down(&b);
}

int main(void)
{
	const char *why = hugepages_take(NR_BLOCKS);

	if (why)
		test_skip("%s", why);
	test_init();
	context_init();
	RUN(filled);
	RUN(late);
	RUN(discards);
	RUN(stopped);
	return 0;
}
