/* SPDX-License-Identifier: MIT */
/*
 * Large folios of images, given or refused by a kernel that the test stands for: which blocks begin
 * as one, what is counted, and what their holes and unfilled pages are.
 */
#include "sources/folio.h"
#include "sources/image.h"
#include "sources/image_cache.h"
#include "sources/image_discard.h"
#include "sources/image_ready.h"
#include "sources/image_state.h"
#include "sources/source.h"
#include "tests/support/cm.h"
#include "tests/support/rig.h"
#include "tests/unit/folio_kernel.h"

static void blocks_begin_once(void **state)
{
	struct bare b;

	(void)state;
	nr_interrupts = 2;
	bare_init(&b, UINT64_MAX, NULL);
	assert_true(write_pages(&b, 512 + 100, 64));
	assert_int_equal(nr_interrupts, 0);
	assert_int_equal(count(&b.f.nr_spare), 512 - 64);
	assert_true(write_pages(&b, 512, 100));
	assert_int_equal(nr_populated, 1);
	assert_int_equal(count(&b.f.nr_spare), 512 - 164);
	assert_true(write_pages(&b, 512 + 164, 348));
	assert_int_equal(count(&b.f.nr_spare), 0);
	assert_int_equal(count(&b.f.nr_large), 1);
	assert_true(fln_folio_is_large(&b.f, 1));
	assert_false(fln_folio_is_large(&b.f, 0));
	/* The end of the image is no block. */
	assert_false(write_pages(&b, NR_BLOCKS * 512, 7));
	assert_false(fln_folio_is_large(&b.f, NR_BLOCKS));
	assert_int_equal(b.nr_lines, 0);
	bare_deinit(&b);
}

static void refused(int err)
{
	uint32_t nr_tried;
	struct bare b;

	gives = false;
	populate_errno = err;
	bare_init(&b, UINT64_MAX, NULL);
	for (uint64_t block = 1; block <= 16; block++)
		assert_false(write_pages(&b, block * 512, 64));
	assert_int_equal(count(&b.f.nr_refused), 16);
	assert_int_equal(count(&b.f.nr_large), 0);
	assert_int_equal(count(&b.f.nr_spare), 0);
	assert_int_equal(b.nr_lines, 1);
	/* From then on few are tried, until one succeeds. */
	nr_tried = nr_populated;
	for (uint64_t block = 17; block < 128; block++)
		assert_false(write_pages(&b, block * 512, 64));
	assert_int_equal(nr_populated - nr_tried, err ? 0 : 6);
	assert_int_equal(count(&b.f.nr_refused), 127);
	assert_int_equal(b.nr_lines, 1);
	gives = true;
	populate_errno = 0;
	assert_false(write_pages(&b, 5 * 512 + 64, 64)); /* small for good */
	assert_true(write_pages(&b, 128 * 512, 64));
	assert_true(write_pages(&b, 129 * 512, 64));
	bare_deinit(&b);
}

static void small_ones_where_the_kernel_gives_none(void **state)
{
	(void)state;
	refused(0);
	(void)reset(state);
	refused(EFAULT); /* a tmpfs that is full */
	(void)reset(state);
	refused(ENOMEM);
}

static void memory_beyond_what_is_filled_is_bounded(void **state)
{
	uint64_t nr_large = 0;
	struct bare b;

	(void)state;
	bare_init(&b, 2048, NULL);
	for (uint64_t block = 0; block < NR_BLOCKS; block++) {
		nr_large += write_pages(&b, block * 512 + 3, 64);
		assert_true(count(&b.f.nr_spare) <= 2048 + count(&b.f.nr_asked));
	}
	assert_true(nr_large >= 4 && nr_large < NR_BLOCKS / 4);
	assert_int_equal(count(&b.f.nr_large), nr_large);
	assert_int_equal(count(&b.f.nr_bounded), NR_BLOCKS - nr_large);
	assert_int_equal(nr_populated, nr_large);
	assert_int_equal(b.nr_lines, 0);
	bare_deinit(&b);
	/* Blocks that are filled as a whole meet no bound. */
	bare_init(&b, 512, NULL);
	for (uint64_t page = 0; page < NR_BLOCKS * 512; page += 64)
		assert_true(write_pages(&b, page, 64));
	assert_int_equal(count(&b.f.nr_spare), 0);
	bare_deinit(&b);
}

static void bytes_that_are_there_stay(void **state)
{
	char old[FLN_PAGE_BYTES];
	struct bare b;

	(void)state;
	bare_init(&b, UINT64_MAX, NULL);
	memset(old, 0xaa, sizeof(old));
	assert_int_equal(pwrite(b.f.opts.memfd, old, sizeof(old), (off_t)BYTES(512 + 511)),
			 (ssize_t)sizeof(old));
	assert_false(write_pages(&b, 512, 64));
	assert_true(write_pages(&b, 0, 64));
	assert_true(write_pages(&b, 1024, 64));
	assert_int_equal(nr_populated, 2);
	assert_int_equal(count(&b.f.nr_refused), 0);
	bare_deinit(&b);
}

static void a_folio_that_lost_pages_is_not_large(void **state)
{
	struct fln_mask m;
	struct bare b;

	(void)state;
	bare_init(&b, UINT64_MAX, NULL);
	for (uint64_t block = 0; block < 5; block++)
		assert_true(write_pages(&b, block * 512, 64));
	fln_folio_gone(&b.f, 512 + 511, 2); /* the ends of two */
	fln_folio_gone(&b.f, 4 * 512, UINT64_C(1) << 40);
	fln_folio_gone(&b.f, 512, 1); /* again */
	assert_false(fln_folio_is_large(&b.f, 1));
	assert_false(fln_folio_is_large(&b.f, 2));
	assert_int_equal(count(&b.f.nr_large), 2);
	assert_int_equal(count(&b.f.nr_spare), 5 * (512 - 64)); /* the others are there still */
	assert_false(write_pages(&b, 512 + 64, 64));            /* never again */
	assert_int_equal(count(&b.f.nr_spare), 5 * (512 - 64) - 64);
	m = fln_folio_pages(&b.f, 400, 512);
	assert_int_equal(fln_mask_count(&m), 112);
	assert_true(fln_mask_test(&m, 111) && !fln_mask_test(&m, 112));
	m = fln_folio_pages(&b.f, 3 * 512 - 10, 20);
	assert_int_equal(fln_mask_count(&m), 10);
	assert_true(fln_mask_test(&m, 10));
	bare_deinit(&b);
}

static int64_t no_read(void *ctx, uint64_t at, void *buf, uint64_t len)
{
	(void)ctx;
	(void)at;
	(void)buf;
	(void)len;
	return -EIO;
}

static uint32_t nr_questions;

/* Of block n the first n pages of each 8 are data. */
static int64_t eighths(void *ctx, uint64_t at, uint64_t len, int *is_hole)
{
	uint64_t page = fln_bytes_to_pages(at), data = page / 512, in_8 = page % 8;
	uint64_t nr = in_8 < data ? data - in_8 : 8 - in_8;

	(void)ctx;
	nr_questions++;
	*is_hole = in_8 >= data;
	return (int64_t)(BYTES(nr) < len ? BYTES(nr) : len);
}

static void blocks_that_are_mostly_holes_are_small(void **state)
{
	const struct fln_source_ops ops = { .size = sizeof(ops),
					    .read = no_read,
					    .extent = eighths };
	struct fln_source *source;
	struct bare b;

	(void)state;
	assert_int_equal(fln_source_create(&ops, NULL, &source), 0);
	bare_init(&b, UINT64_MAX, source);
	for (uint64_t block = 0; block <= 8; block++) {
		nr_questions = 0;
		assert_int_equal(fln_folio_begin_fill(&b.f, block * 512, 1), block >= 4);
		assert_true(nr_questions <= 16);
		assert_int_equal(write_pages(&b, block * 512, 1), block >= 4);
	}
	bare_deinit(&b);
	fln_source_destroy(source);
}

static uint64_t word_in_cache(const struct rig *r, uint64_t page)
{
	uint64_t word = 1;

	assert_int_equal(pread(r->image.memfd, &word, sizeof(word), (off_t)BYTES(page)),
			 (ssize_t)sizeof(word));
	return word;
}

static struct rig *large_rig(struct rig_opts opts)
{
	opts.nr_pages = 1024;
	opts.large = true;
	opts.fill_pages = opts.fill_pages ? opts.fill_pages : 64;
	return rig_create(&opts);
}

/* Holes are zeros that the page cache has, unfilled pages wait, whatever the page cache has. */
static void holes_and_unfilled_pages(bool is_private)
{
	struct rig *r = large_rig((struct rig_opts){ .is_private = is_private, .window = 64 });
	struct fln_mask filled, zero;
	uint32_t t;

	for (uint32_t p = 0; p < 512; p++)
		r->hole[p] = p % 5 == 1;
	assert_int_equal(fln_image_fill(&r->image, 0, BYTES(128)), 0);
	assert_true(fln_image_block_is_large(&r->image, 0));
	fln_rcu_read_lock();
	fln_image_ready(&r->image, 0, 512, &filled, &zero);
	fln_rcu_read_unlock();
	assert_int_equal(fln_mask_count(&filled) + fln_mask_count(&zero), 128);
	assert_true(fln_mask_test(&zero, 6));
	for (uint64_t p = 0; p < 128; p++)
		assert_int_equal(word_in_cache(r, p), p % 5 == 1 ? 0 : rig_word(p));
	t = rig_touch(r, 6);
	rig_settle(r);
	rig_assert_read(r, t, 0);
	t = rig_touch(r, 127);
	rig_settle(r);
	rig_assert_read(r, t, rig_due(r, 127));
	/* In the page cache, and not filled. */
	assert_int_equal(word_in_cache(r, 200), 0);
	assert_int_equal(fln_image_state(&r->image, 200), FLN_IMAGE_UNFILLED);
	t = rig_touch(r, 200);
	rig_settle(r);
	rig_assert_read(r, t, rig_due(r, 200));
	assert_true(fln_image_block_is_large(&r->image, 0));
	rig_destroy(r);
}

static void contents_of_large_folios(void **state)
{
	(void)state;
	holes_and_unfilled_pages(false);
	holes_and_unfilled_pages(true);
}

static void discards_make_blocks_small(void **state)
{
	struct rig *r = large_rig((struct rig_opts){ .window = 1 });
	uint32_t t;

	(void)state;
	assert_int_equal(fln_image_fill(&r->image, 0, BYTES(64)), 0);
	assert_int_equal(fln_image_fill(&r->image, BYTES(512), BYTES(64)), 0);
	/* A filled page and an unfilled one; and what a guest says of filled pages changes nothing. */
	fln_image_give_up(&r->image, 5, 3);
	assert_true(fln_image_block_is_large(&r->image, 0));
	fln_image_give_up(&r->image, 300, 1);
	assert_false(fln_image_block_is_large(&r->image, 0));
	assert_int_equal(fln_image_state(&r->image, 300), FLN_IMAGE_ZERO);
	assert_int_equal(fln_image_hole(&r->image, 300, 1), 0); /* zeros, and no punch for them */
	assert_int_equal(fln_image_discard(&r->image, BYTES(512 + 3), BYTES(1)), 0);
	assert_false(fln_image_block_is_large(&r->image, 1));
	t = rig_touch(r, 512 + 3);
	rig_settle(r);
	rig_assert_read(r, t, 0);
	t = rig_touch(r, 300);
	rig_settle(r);
	rig_assert_read(r, t, 0);
	/* The rest is filled as before. */
	assert_int_equal(fln_image_fill(&r->image, 0, BYTES(1024)), 0);
	for (uint64_t p = 0; p < 1024; p++)
		assert_int_equal(word_in_cache(r, p), p == 300 || p == 512 + 3 ? 0 : rig_word(p));
	rig_destroy(r);
}

static void an_alias_that_fails_is_done_without(void **state)
{
	struct rig *r = large_rig((struct rig_opts){ .pushed = true });

	(void)state;
	alias_fails = true;
	rig_put(r, 10, 64);
	for (uint64_t p = 10; p < 74; p++)
		assert_int_equal(word_in_cache(r, p), rig_word(p));
	alias_fails = false;
	rig_put(r, 0, 512);
	for (uint64_t p = 0; p < 512; p++)
		assert_int_equal(word_in_cache(r, p), rig_word(p));
	assert_true(fln_image_block_is_large(&r->image, 0));
	rig_destroy(r);
}

/* A source that has the first bytes of what it is asked for at hand, and no whole page. */
static uint64_t at_hand_bytes;
static uint64_t lost_bytes; /* of those, while it is asked */
static struct rig *asked_by;

/* Nobody may have to wait for a fill now. */
static void expect_no_fill_writes(void)
{
	for (uint32_t i = 0; asked_by && i < FLN_IMAGE_NR_BUCKETS; i++) {
		for (struct fln_fill *f = asked_by->image.in_flight[i]; f; f = f->next_of_image)
			assert_false(f->writing);
	}
}

static uint64_t part_at_hand(void *ctx, uint64_t at, uint64_t len)
{
	(void)ctx;
	(void)at;
	expect_no_fill_writes();
	return fln_align_down(at_hand_bytes < len ? at_hand_bytes : len, FLN_PAGE_BYTES);
}

static int64_t read_part(void *ctx, uint64_t at, void *buf, uint64_t len)
{
	uint64_t nr = at_hand_bytes - lost_bytes < len ? at_hand_bytes - lost_bytes : len;

	(void)ctx;
	/* It may wait, so it is called for what is at hand only. */
	assert_true(len <= at_hand_bytes);
	for (uint64_t i = 0; i < nr; i += 8) {
		uint64_t word = rig_word((at + i) / FLN_PAGE_BYTES);

		memcpy((char *)buf + i, &word, 8);
	}
	return nr ? (int64_t)nr : -EAGAIN;
}

static void what_is_at_hand_is_read_in_place(void **state)
{
	struct rig *r = large_rig((struct rig_opts){ .fill_pages = 64 });
	uint32_t nr;

	(void)state;
	asked_by = r;
	on_populate = expect_no_fill_writes;
	r->source->at_hand = part_at_hand;
	r->source->read_at_hand = read_part;
	at_hand_bytes = UINT64_MAX;
	lost_bytes = 0;
	assert_int_equal(fln_image_fill(&r->image, 0, BYTES(64)), 0);
	assert_int_equal(r->nr_source_reads, 0);
	at_hand_bytes = 0;
	assert_int_equal(fln_image_fill(&r->image, BYTES(64), BYTES(64)), 0);
	nr = r->nr_source_reads;
	assert_true(nr > 0);
	/* Twelve pages, of which all but ten and a piece are lost: what failed reads zero. */
	at_hand_bytes = BYTES(12);
	lost_bytes = BYTES(2) - 64;
	for (uint64_t p = 138; p < 192; p++)
		r->bad[p] = true;
	assert_true(fln_image_fill(&r->image, BYTES(128), BYTES(64)) < 0);
	for (uint64_t p = 0; p < 512; p++) {
		bool there = p < 138;

		assert_int_equal(fln_image_state(&r->image, p), there     ? FLN_IMAGE_FILLED
								: p < 192 ? FLN_IMAGE_FAILED
									  : FLN_IMAGE_UNFILLED);
		assert_int_equal(word_in_cache(r, p), there ? rig_word(p) : 0);
	}
	/* The next block begins with data that is not at hand: nobody waits for its allocation. */
	at_hand_bytes = lost_bytes = 0;
	assert_int_equal(fln_image_fill(&r->image, BYTES(512), BYTES(64)), 0);
	assert_int_equal(nr_populated, 2);
	asked_by = NULL;
	rig_destroy(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(blocks_begin_once, reset),
		cmocka_unit_test_setup(small_ones_where_the_kernel_gives_none, reset),
		cmocka_unit_test_setup(memory_beyond_what_is_filled_is_bounded, reset),
		cmocka_unit_test_setup(bytes_that_are_there_stay, reset),
		cmocka_unit_test_setup(a_folio_that_lost_pages_is_not_large, reset),
		cmocka_unit_test_setup(blocks_that_are_mostly_holes_are_small, reset),
		cmocka_unit_test_setup(contents_of_large_folios, reset),
		cmocka_unit_test_setup(discards_make_blocks_small, reset),
		cmocka_unit_test_setup(an_alias_that_fails_is_done_without, reset),
		cmocka_unit_test_setup(what_is_at_hand_is_read_in_place, reset),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
