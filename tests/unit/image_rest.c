/* SPDX-License-Identifier: MIT */
/* Fills of whole blocks: in which order they read, and what they leave alone. */
#include "sources/image.h"
#include "sources/image_state.h"
#include "sources/image_want.h"
#include "sources/source.h"

#include "tests/support/cm.h"
#include "tests/support/rig.h"

#define WAITER 3u
#define PART 64u

static uint64_t nth_read[8]; /* the first page of each */
static uint32_t nr_reads;

static void note_read(struct rig *r, uint64_t page)
{
	(void)r;
	assert_true(nr_reads < 8);
	nth_read[nr_reads++] = page;
}

static struct rig *rig(uint32_t nr_pages)
{
	struct rig *r = rig_create(&(struct rig_opts){ .nr_pages = nr_pages, .fill_pages = PART });

	nr_reads = 0;
	r->in_read = note_read;
	return r;
}

/* A fault asks for page 300 and the rest of its block: its part comes first, then what follows. */
static void what_a_fault_waits_for_is_read_first(void **state)
{
	struct fln_image_want want = { .fill_pages = FLN_BLOCK_PAGES };
	struct rig *r = rig(700);

	(void)state;
	assert_int_equal(fln_image_want(&r->image, 300, WAITER, &want), FLN_IMAGE_IS_PENDING);
	assert_int_equal(rig_fill(r, UINT32_MAX), 1);
	assert_int_equal(nr_reads, 3);
	assert_int_equal(nth_read[0], 256);
	assert_int_equal(nth_read[1], 256 + PART);
	assert_int_equal(nth_read[2], 0);
	for (uint64_t page = 0; page < 512; page++)
		assert_int_equal(fln_image_state(&r->image, page), FLN_IMAGE_FILLED);
	assert_int_equal(fln_image_state(&r->image, 512), FLN_IMAGE_UNFILLED);
	rig_destroy(r);
}

/* Nobody waits: the block is read in one. */
static void nobody_waits(void **state)
{
	struct fln_image_want want = { .fill_pages = FLN_BLOCK_PAGES, .background = true };
	struct rig *r = rig(700);

	(void)state;
	assert_int_equal(fln_image_want(&r->image, 300, WAITER, &want), FLN_IMAGE_IS_PENDING);
	assert_int_equal(rig_fill(r, UINT32_MAX), 1);
	assert_int_equal(nr_reads, 1);
	rig_destroy(r);
}

/* What is filled, or being filled, is left alone, and so is the next block. */
static void the_rest_only(void **state)
{
	struct rig *r = rig(1024);

	(void)state;
	rig_put(r, 100, 10);
	assert_int_equal(fln_image_request(&r->image, 300, WAITER), FLN_IMAGE_IS_PENDING);
	fln_image_fill_rest(&r->image, 5);
	assert_int_equal(rig_fill(r, UINT32_MAX), 4);
	assert_int_equal(nr_reads, 4);
	for (uint64_t page = 0; page < 512; page++) {
		assert_int_equal(fln_image_state(&r->image, page), FLN_IMAGE_FILLED);
		assert_int_equal(r->nr_reads[page], page < 100 || page >= 110);
	}
	assert_int_equal(fln_image_state(&r->image, 512), FLN_IMAGE_UNFILLED);
	fln_image_fill_rest(&r->image, 5); /* nothing is left */
	assert_int_equal(rig_fill(r, UINT32_MAX), 0);
	rig_destroy(r);
}

/* More runs than fills: as many as there are, and nobody is kept waiting for the others. */
static void a_block_in_pieces(void **state)
{
	struct rig *r = rig(512);

	(void)state;
	for (uint64_t page = 0; page < 512; page += 16)
		rig_put(r, page, 1);
	r->in_read = NULL;
	fln_image_fill_rest(&r->image, 0);
	assert_in_range(rig_fill(r, UINT32_MAX), 1, 31);
	assert_int_equal(fln_image_state(&r->image, 1), FLN_IMAGE_FILLED);
	assert_int_equal(fln_image_state(&r->image, 511), FLN_IMAGE_UNFILLED);
	rig_destroy(r);
}

/* Pages of 1 µs, and of 20 µs; now and then the thread does not run for 10 ms. */
static void what_a_read_takes(void **state)
{
	struct fln_source s = { .len_bytes = 0 };

	(void)state;
	fln_source_note(&s, PART, 10 * 1000 * 1000);
	for (uint32_t i = 0; i < 10; i++)
		fln_source_note(&s, PART, PART * 1000);
	assert_in_range(atomic_load(&s.page_ns), 900, 1500);
	for (uint32_t i = 0; i < 100; i++)
		fln_source_note(&s, PART, i % 10 == 0 ? 10 * 1000 * 1000 : PART * 1000);
	assert_in_range(atomic_load(&s.page_ns), 900, 1900);
	for (uint32_t i = 0; i < 40; i++)
		fln_source_note(&s, PART, UINT64_C(20) * PART * 1000);
	assert_in_range(atomic_load(&s.page_ns), 15000, 21000);
	fln_source_note(&s, 1, UINT64_MAX);
	assert_true(atomic_load(&s.page_ns) <= UINT32_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_a_read_takes),
		cmocka_unit_test(what_a_fault_waits_for_is_read_first),
		cmocka_unit_test(nobody_waits),
		cmocka_unit_test(the_rest_only),
		cmocka_unit_test(a_block_in_pieces),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
