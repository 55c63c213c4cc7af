/* SPDX-License-Identifier: MIT */
/*
 * What becomes of blocks by themselves: the rest of one is filled, quiet ones are released, and
 * memory that large folios took for nothing is given back.
 */
#include "tests/integration/folio_bed.h"

#include <stdlib.h>
#include <sys/mman.h>

#define FEW_BLOCKS 8u
#define MANY_BLOCKS 256u
#define FILL_PAGES 64u /* of a fill, by default */

static struct bed bed;
static uint8_t *contents;

/* Contents that are read as fast as memory. */
static void up(uint32_t nr_blocks, uint32_t folio, bool fill_first)
{
	uint64_t len = (uint64_t)nr_blocks * BLOCK;

	bed_init(&bed, nr_blocks * 512u);
	contents = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(contents != MAP_FAILED, "mmap: %s", strerror(errno));
	for (uint64_t page = 0; page < bed.nr_pages; page++)
		contents_of(bed.maker.salt, page, contents + page * PAGE);
	OK(fln_source_from_memory(contents, len, &bed.source));
	bed.image_opts.source = bed.source;
	bed.image_opts.folio = folio;
	bed.guest_opts.release = FLN_RELEASE_AUTO;
	bed_up_image(&bed);
	if (fill_first)
		OK(fln_image_fill(bed.image, 0, len));
	bed_up(&bed);
}

static void down(void)
{
	bed_down(&bed);
	(void)munmap(contents, (uint64_t)bed.nr_pages * PAGE);
}

static uint64_t released_bytes(void)
{
	struct fln_stats s = FLN_STATS_INIT;

	OK(fln_guest_stats(bed.guest, &s));
	return s.released_bytes;
}

#define AWAIT(condition, what)                                                                \
	do {                                                                                  \
		STEP("until %s", what);                                                       \
		for (uint64_t t0_ = now_ns(); !(condition); sleep_ms(5))                      \
			CHECK(now_ns() - t0_ < WAIT_S * 1000 * MS, "in %u s: not %s", WAIT_S, \
			      what);                                                          \
	} while (0)

static void touch(uint64_t page)
{
	expect(&bed, page, due(&bed, page));
}

/* What the host makes of it; and what the last test has left to be freed. */
static bool has_large_folios(void)
{
	bool large;

	up(FEW_BLOCKS, FLN_FOLIO_AUTO, false);
	touch(0);
	large = memory_of(&bed).large_blocks == 1;
	down();
	return large;
}

static void one_fault_fills_its_part(void)
{
	up(FEW_BLOCKS, FLN_FOLIO_AUTO, false);
	for (uint32_t i = 0; i < FEW_BLOCKS; i++)
		touch(i * 512u + 100);
	sleep_ms(300);
	CHECK(memory_of(&bed).filled_bytes == FEW_BLOCKS * FILL_PAGES * PAGE,
	      "%llu bytes are filled", (unsigned long long)memory_of(&bed).filled_bytes);
	CHECK(released_bytes() == 0, "%llu bytes are released",
	      (unsigned long long)released_bytes());
	expect_all(&bed);
	down();
}

/* Two parts of each block are touched.  False: the source has seemed slow, as when it does not run. */
static bool touch_two_parts(void)
{
	for (uint32_t i = 0; i < FEW_BLOCKS; i++) {
		touch(i * 512u + 100);
		touch(i * 512u + 300);
	}
	for (uint64_t t0 = now_ns(); now_ns() - t0 < 2000 * MS; sleep_ms(5)) {
		if (fln_image_filled_bytes(bed.image) == FEW_BLOCKS * BLOCK)
			return true;
	}
	return false;
}

static void second_part_fills_the_rest(void)
{
	bool all = false;

	for (uint32_t i = 0; i < 10 && !all; i++) {
		up(FEW_BLOCKS, FLN_FOLIO_AUTO, false);
		all = touch_two_parts();
		if (all)
			AWAIT(released_bytes() == FEW_BLOCKS * BLOCK, "all is released");
		expect_all(&bed);
		down();
	}
	CHECK(all, "in 10 guests, the rest of a block was left");
}

/* One page in 512 is touched: what the folios take beyond it goes back, and the contents stay. */
static void sparse_memory_is_given_back(void)
{
	struct fln_memory_stats s;
	uint64_t most;

	up(MANY_BLOCKS, FLN_FOLIO_AUTO, false);
	for (uint32_t i = 0; i < MANY_BLOCKS; i++)
		touch(i * 512u + i);
	s = memory_of(&bed);
	most = 2 * s.filled_bytes + (UINT64_C(64) << 20);
	test_note("%llu MiB at first, %llu filled, %llu blocks large, %llu refused, %llu bounded",
		  (unsigned long long)s.memory_bytes >> 20,
		  (unsigned long long)s.filled_bytes >> 20, (unsigned long long)s.large_blocks,
		  (unsigned long long)s.refused_blocks, (unsigned long long)s.bounded_blocks);
	/* Without being given back, all of it would not have found room within the bound. */
	CHECK(s.bounded_blocks == 0, "%llu blocks are small for the bound",
	      (unsigned long long)s.bounded_blocks);
	AWAIT(memory_of(&bed).memory_bytes <= most, "what is not needed is given back");
	s = memory_of(&bed);
	CHECK(s.filled_bytes == MANY_BLOCKS * FILL_PAGES * PAGE, "%llu bytes are filled",
	      (unsigned long long)s.filled_bytes);
	for (uint64_t page = 0; page < bed.nr_pages; page += 7)
		touch(page);
	down();
}

/* Nobody fills the pages of an image without a source on request, and nobody trims it. */
static void pushed_memory_is_left_alone(void)
{
	static uint8_t block[BLOCK];
	const uint32_t nr = 40;

	bed_init(&bed, 2 * nr * 512u);
	contents = NULL;
	bed.image_opts.folio = FLN_FOLIO_AUTO;
	bed.image_opts.folio_spare_bytes = BLOCK;
	bed.guest_opts.release = FLN_RELEASE_AUTO;
	OK(fln_engine_create(&bed.engine_opts, &bed.engine));
	OK(fln_engine_start(bed.engine));
	bed.image_opts.len_bytes = bed.nr_pages * PAGE;
	OK(fln_image_create(bed.engine, &bed.image_opts, &bed.image));
	bed_up(&bed);
	for (uint32_t i = 0; i < nr; i++) {
		for (uint32_t page = 0; page < 511; page++)
			contents_of(bed.maker.salt, i * 512u + page, block + page * PAGE);
		OK(fln_image_put(bed.image, i * BLOCK, block, 511 * PAGE));
	}
	for (uint32_t i = nr; i < 2 * nr; i++) {
		contents_of(bed.maker.salt, i * 512u, block);
		OK(fln_image_put(bed.image, i * BLOCK, block, PAGE));
	}
	/* What was pushed goes, and with it the reason for all that memory. */
	for (uint32_t i = 0; i < nr; i++)
		CHECK(madvise(bed_page(&bed, i * 512u), 511 * PAGE, MADV_REMOVE) == 0,
		      "madvise: %s", strerror(errno));
	sleep_ms(1500);
	for (uint32_t i = nr; i < 2 * nr; i++)
		touch(i * 512u);
	for (uint32_t i = 0; i < nr; i++)
		expect(&bed, i * 512u + 5, 0);
	bed_down(&bed);
}

/* The thread's pages of each block, one after the other, while blocks are trimmed. */
static void touch_slowly(void *arg, uint32_t index)
{
	uint64_t seed = index + 1;

	(void)arg;
	for (uint32_t round = 0; round < 4; round++) {
		for (uint32_t i = 0; i < MANY_BLOCKS; i++) {
			uint64_t block = next_random(&seed) % MANY_BLOCKS;

			touch(block * 512u + (index * 128u + round * 37u + 64u) % 512u);
			if (i % 16 == 0)
				sleep_ms(10);
		}
	}
}

static void touched_while_it_is_trimmed(void)
{
	struct crew crew;

	up(MANY_BLOCKS, FLN_FOLIO_AUTO, false);
	crew_start(&crew, 4, touch_slowly, NULL);
	crew_wait(&crew, 120, "threads that touch a page of a block now and then");
	for (uint64_t page = 0; page < bed.nr_pages; page += 7)
		touch(page);
	down();
}

static void quiet_blocks_are_released(void)
{
	up(FEW_BLOCKS, FLN_FOLIO_SMALL, true);
	for (uint32_t i = 0; i < FEW_BLOCKS; i++)
		touch(i * 512u + 77);
	AWAIT(released_bytes() == FEW_BLOCKS * BLOCK, "all is released");
	expect_all(&bed);
	down();
}

/* Nobody touches anything. */
static void an_idle_guest_is_released(void)
{
	up(FEW_BLOCKS, FLN_FOLIO_SMALL, true);
	AWAIT(released_bytes() == FEW_BLOCKS * BLOCK, "all is released");
	expect_all(&bed);
	down();
}

/* The embedder says that memory is touched at random: blocks leave at their first fault. */
static void at_the_first_fault(void)
{
	uint64_t released;

	up(FEW_BLOCKS, FLN_FOLIO_SMALL, true);
	OK(fln_guest_advise(bed.guest, (uintptr_t)bed.mem, FEW_BLOCKS * BLOCK, FLN_ADVICE_RANDOM));
	for (uint32_t i = 0; i < FEW_BLOCKS; i++)
		touch(i * 512u + 77);
	released = released_bytes();
	/* One block in 64 is a control, which stays until it is quiet. */
	CHECK(released >= FEW_BLOCKS / 2 * BLOCK, "%llu bytes are released",
	      (unsigned long long)released);
	expect_all(&bed);
	down();
}

int main(void)
{
	RUN(quiet_blocks_are_released);
	RUN(an_idle_guest_is_released);
	RUN(at_the_first_fault);
	if (!has_large_folios())
		test_skip(
			"the host gives no large folios (shmem_enabled, or memory is fragmented)");
	RUN(one_fault_fills_its_part);
	RUN(second_part_fills_the_rest);
	RUN(sparse_memory_is_given_back);
	RUN(touched_while_it_is_trimmed);
	RUN(pushed_memory_is_left_alone);
	return 0;
}
