/* SPDX-License-Identifier: MIT */
/* States of an image's pages: how contents come in, and how they are given up. */
#include "sources/image.h"
#include "sources/fill.h"
#include "sources/image_discard.h"
#include "sources/image_life.h"
#include "sources/image_ready.h"
#include "sources/image_state.h"
#include "sources/image_want.h"

#include "tests/support/cm.h"
#include "tests/support/death.h"
#include "tests/support/rig.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define WAITER 3u
#define BYTES(pages) ((uint64_t)(pages)*FLN_PAGE_BYTES)

static struct rig *rig(uint32_t nr_pages, uint32_t fill_pages)
{
	return rig_create(&(struct rig_opts){ .nr_pages = nr_pages, .fill_pages = fill_pages });
}

static void assert_state(struct rig *r, uint64_t page, enum fln_image_page state)
{
	assert_int_equal(fln_image_state(&r->image, page), state);
}

static uint64_t contents(struct rig *r, uint64_t page)
{
	return fake_contents(&(struct fake_page){ .fd = r->image.memfd, .file_page = page });
}

static bool cached(struct rig *r, uint64_t page)
{
	return fake_in_cache(&(struct fake_page){ .fd = r->image.memfd, .file_page = page });
}

static void assert_filled(struct rig *r, uint64_t page)
{
	assert_state(r, page, FLN_IMAGE_FILLED);
	assert_int_equal(contents(r, page), rig_word(page));
}

static void a_request_is_filled_and_then_told(void **state)
{
	struct rig *r = rig(64, 1);

	(void)state;
	r->watched = 9;
	assert_state(r, 9, FLN_IMAGE_UNFILLED);
	assert_int_equal(fln_image_request(&r->image, 9, WAITER), FLN_IMAGE_IS_PENDING);
	assert_state(r, 9, FLN_IMAGE_FILLING);
	assert_int_equal(r->nr_kicks, 0);
	assert_int_equal(rig_fill(r, 1), 1);
	assert_int_equal(r->nr_kicks, 1);
	assert_int_equal(r->kicked, 1u << WAITER);
	assert_int_equal(r->state_at_kick, FLN_IMAGE_FILLED);
	assert_filled(r, 9);
	assert_int_equal(fln_image_request(&r->image, 9, WAITER), FLN_IMAGE_IS_READY);
	assert_int_equal(fln_image_filled_bytes(&r->image), FLN_PAGE_BYTES);
	rig_destroy(r);
}

static void two_requests_are_one_fill(void **state)
{
	struct rig *r = rig(64, 1);

	(void)state;
	assert_int_equal(fln_image_request(&r->image, 9, 1), FLN_IMAGE_IS_PENDING);
	assert_int_equal(fln_image_request(&r->image, 9, 2), FLN_IMAGE_IS_PENDING);
	assert_int_equal(fln_image_request(&r->image, 9, 63), FLN_IMAGE_IS_PENDING);
	assert_int_equal(rig_fill(r, UINT32_MAX), 1);
	assert_int_equal(r->nr_source_reads, 1);
	assert_int_equal(r->kicked, UINT64_C(6) | UINT64_C(1) << 63);
	rig_destroy(r);
}

static void a_fill_covers_its_window_as_far_as_that_is_open(void **state)
{
	struct rig *r = rig(700, 8);

	(void)state;
	rig_put(r, 10, 1);
	assert_int_equal(fln_image_request(&r->image, 13, WAITER), FLN_IMAGE_IS_PENDING);
	assert_state(r, 9, FLN_IMAGE_UNFILLED);
	assert_state(r, 11, FLN_IMAGE_FILLING);
	assert_state(r, 15, FLN_IMAGE_FILLING);
	assert_state(r, 16, FLN_IMAGE_UNFILLED);
	/* At the end of the image, and of no whole window. */
	assert_int_equal(fln_image_request(&r->image, 699, WAITER), FLN_IMAGE_IS_PENDING);
	assert_int_equal(rig_fill(r, UINT32_MAX), 2);
	for (uint64_t p = 10; p < 16; p++)
		assert_filled(r, p);
	for (uint64_t p = 696; p < 700; p++)
		assert_filled(r, p);
	assert_state(r, 695, FLN_IMAGE_UNFILLED);
	rig_destroy(r);
}

static void put_loses_to_what_is_there(void **state)
{
	static const uint64_t other[8 * 512];
	struct rig *r = rig(64, 1);

	(void)state;
	assert_int_equal(fln_image_fill(&r->image, BYTES(2), BYTES(1)), 0);
	fln_image_give_up(&r->image, 3, 1);
	assert_int_equal(fln_image_request(&r->image, 4, WAITER), FLN_IMAGE_IS_PENDING);
	rig_put(r, 0, 8);
	assert_state(r, 3, FLN_IMAGE_ZERO);
	assert_false(cached(r, 3));
	assert_filled(r, 4); /* its read had not come back: image_put.c */
	assert_int_equal(fln_image_put(&r->image, 0, other, sizeof(other)), 0);
	for (uint64_t p = 0; p < 8; p++) {
		if (p != 3)
			assert_filled(r, p);
	}
	assert_int_equal(rig_fill(r, 1), 1);
	assert_filled(r, 4);
	rig_destroy(r);
}

static void put_tells_waiting_workers(void **state)
{
	struct rig *r = rig_create(&(struct rig_opts){ .nr_pages = 64, .pushed = true });

	(void)state;
	r->watched = 7;
	assert_int_equal(fln_image_request(&r->image, 7, WAITER), FLN_IMAGE_IS_PENDING);
	assert_state(r, 7, FLN_IMAGE_UNFILLED);
	assert_int_equal(fln_image_fill(&r->image, 0, BYTES(1)), -ENODATA);
	rig_put(r, 7, 1);
	assert_int_equal(r->nr_kicks, 1);
	assert_int_equal(r->kicked, 1u << WAITER);
	assert_int_equal(r->state_at_kick, FLN_IMAGE_FILLED);
	rig_put(r, 8, 1);
	assert_int_equal(r->nr_kicks, 1); /* nobody waits any more */
	/* Waiters for pages that are discarded instead are told as well. */
	assert_int_equal(fln_image_request(&r->image, 20, WAITER), FLN_IMAGE_IS_PENDING);
	fln_image_give_up(&r->image, 20, 1);
	assert_int_equal(r->nr_kicks, 2);
	rig_destroy(r);
}

/* A limit on the size of files: no signal, and what is beyond it has failed. */
static void no_page_cache_is_to_be_had(void **state)
{
	struct rig *r = rig(64, 8);
	struct rlimit before, none = { 0, 0 };
	static const uint64_t words[512];

	(void)state;
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	none.rlim_max = before.rlim_max;
	assert_int_equal(fln_image_request(&r->image, 4, WAITER), FLN_IMAGE_IS_PENDING);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &none), 0);
	assert_int_equal(fln_image_put(&r->image, BYTES(20), words, BYTES(1)), -EFBIG);
	assert_int_equal(rig_fill(r, 1), 1);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
	assert_state(r, 20, FLN_IMAGE_UNFILLED); /* the pusher may try again */
	assert_state(r, 4, FLN_IMAGE_FAILED);    /* nobody would */
	rig_put(r, 20, 1);
	assert_filled(r, 20);
	assert_int_equal(fln_image_filled_bytes(&r->image), BYTES(1));
	rig_destroy(r);
}

static void what_is_given_up_is_never_read(void **state)
{
	struct rig *r = rig(2048, 1);

	(void)state;
	rig_put(r, 100, 1);
	fln_image_give_up(&r->image, 50, 1500); /* over blocks, and over what is filled */
	assert_filled(r, 100);
	for (uint64_t p = 50; p < 1550; p++) {
		if (p != 100)
			assert_state(r, p, FLN_IMAGE_ZERO);
	}
	assert_int_equal(fln_image_request(&r->image, 60, WAITER), FLN_IMAGE_IS_READY);
	assert_int_equal(fln_image_fill(&r->image, 0, BYTES(2048)), 0);
	assert_int_equal(r->nr_reads[49], 1);
	assert_int_equal(r->nr_reads[50], 0);
	assert_int_equal(r->nr_reads[1549], 0);
	assert_int_equal(r->nr_reads[1550], 1);
	assert_false(cached(r, 60));
	assert_int_equal(fln_image_filled_bytes(&r->image), BYTES(2048));
	rig_destroy(r);
}

static void give_up_3_and_5(struct rig *r, uint64_t page)
{
	if (page != 0)
		return;
	fln_image_give_up(&r->image, 3, 1);
	fln_image_give_up(&r->image, 5, 1);
	fln_image_give_up(&r->image, 5, 1);
}

static void given_up_while_it_is_read(void **state)
{
	struct rig *r = rig(64, 8);

	(void)state;
	r->in_read = give_up_3_and_5;
	r->watched = 3;
	assert_int_equal(fln_image_request(&r->image, 1, WAITER), FLN_IMAGE_IS_PENDING);
	assert_int_equal(rig_fill(r, 1), 1);
	for (uint64_t p = 0; p < 8; p++) {
		if (p != 3 && p != 5) {
			assert_filled(r, p);
			continue;
		}
		assert_state(r, p, FLN_IMAGE_ZERO);
		assert_false(cached(r, p)); /* what was written has been taken out again */
	}
	assert_int_equal(r->state_at_kick, FLN_IMAGE_ZERO);
	rig_destroy(r);
}

static void given_up_while_its_read_fails(void **state)
{
	struct rig *r = rig(64, 8);

	(void)state;
	r->bad[3] = r->bad[4] = true;
	r->in_read = give_up_3_and_5;
	assert_int_equal(fln_image_request(&r->image, 1, WAITER), FLN_IMAGE_IS_PENDING);
	assert_int_equal(rig_fill(r, 1), 1);
	assert_state(r, 3, FLN_IMAGE_ZERO);
	assert_state(r, 4, FLN_IMAGE_FAILED);
	assert_state(r, 5, FLN_IMAGE_ZERO);
	rig_destroy(r);
}

static void failed_pages(void **state)
{
	struct rig *r = rig(64, 8);

	(void)state;
	r->bad[5] = r->bad[17] = r->bad[18] = true;
	assert_int_equal(fln_image_request(&r->image, 6, WAITER), FLN_IMAGE_IS_PENDING);
	assert_int_equal(rig_fill(r, 1), 1);
	assert_int_equal(r->kicked, 1u << WAITER);
	for (uint64_t p = 0; p < 8; p++) {
		if (p != 5)
			assert_filled(r, p); /* one bad page takes no other with it */
	}
	assert_state(r, 5, FLN_IMAGE_FAILED);
	assert_int_equal(fln_image_request(&r->image, 5, WAITER), FLN_IMAGE_IS_FAILED);
	assert_true(r->nr_log_lines > 0);
	assert_non_null(strstr(r->last_line, " 5 "));
	assert_int_equal(fln_image_fill(&r->image, BYTES(16), BYTES(8)), -EIO);
	assert_int_equal(fln_image_filled_bytes(&r->image), BYTES(7 + 6));
	/* Contents that come by another way are welcome; so is another attempt. */
	rig_put(r, 5, 1);
	assert_filled(r, 5);
	r->bad[17] = false;
	assert_int_equal(fln_image_fill(&r->image, BYTES(16), BYTES(8)), -EIO);
	assert_filled(r, 17);
	fln_image_give_up(&r->image, 18, 1);
	assert_state(r, 18, FLN_IMAGE_ZERO);
	rig_destroy(r);
}

static void failures_are_retried(void **state)
{
	struct rig *r = rig_create(&(struct rig_opts){ .nr_pages = 8, .nr_retries = 2 });

	(void)state;
	r->bad[1] = true;
	assert_int_equal(fln_image_request(&r->image, 1, WAITER), FLN_IMAGE_IS_PENDING);
	assert_int_equal(rig_fill(r, 1), 1);
	assert_int_equal(r->nr_reads[1], 3);
	assert_state(r, 1, FLN_IMAGE_FAILED);
	rig_destroy(r);
}

static void holes_of_the_source_are_not_read(void **state)
{
	struct rig *r = rig(64, 16);

	(void)state;
	for (uint64_t p = 4; p < 9; p++)
		r->hole[p] = true;
	assert_int_equal(fln_image_request(&r->image, 0, WAITER), FLN_IMAGE_IS_PENDING);
	assert_int_equal(rig_fill(r, 1), 1);
	for (uint64_t p = 0; p < 16; p++) {
		assert_state(r, p, r->hole[p] ? FLN_IMAGE_ZERO : FLN_IMAGE_FILLED);
		assert_int_equal(r->nr_reads[p], !r->hole[p]);
		assert_int_equal(cached(r, p), !r->hole[p]);
	}
	rig_destroy(r);
}

static void holes_that_somebody_punched(void **state)
{
	struct rig *r = rig(64, 1);

	(void)state;
	rig_put(r, 0, 32);
	fake_punch(&r->fake, rig_addr(r, 10), 10);
	assert_int_equal(fln_image_note_hole(&r->image, 10, 5), 5);
	assert_int_equal(fln_image_note_hole(&r->image, 15, 10), 5);
	for (uint64_t p = 0; p < 32; p++)
		assert_state(r, p, p >= 10 && p < 20 ? FLN_IMAGE_ZERO : FLN_IMAGE_FILLED);
	assert_int_equal(fln_image_note_hole(&r->image, 25, 4), 1); /* no hole at all */
	assert_filled(r, 25);
	fake_punch(&r->fake, rig_addr(r, 30), 2);
	assert_int_equal(fln_image_note_hole(&r->image, 30, 2), 2); /* up to the end */
	assert_int_equal(fln_image_filled_bytes(&r->image), BYTES(32));
	rig_destroy(r);
}

static void discard_by_the_embedder(void **state)
{
	struct rig *r = rig(1024, 1);

	(void)state;
	rig_put(r, 0, 8);
	assert_int_equal(fln_image_discard(&r->image, BYTES(4), BYTES(8)), 0);
	for (uint64_t p = 4; p < 12; p++) {
		assert_state(r, p, FLN_IMAGE_ZERO);
		assert_false(cached(r, p));
	}
	assert_filled(r, 3);
	/* Of a block that is whole already, too, and again and again. */
	assert_int_equal(fln_image_fill(&r->image, BYTES(512), BYTES(512)), 0);
	assert_true(fln_blockmap_uniform(&r->image.map, 1) > 0);
	for (uint64_t p = 600; p < 700; p += 3)
		assert_int_equal(fln_image_discard(&r->image, BYTES(p), BYTES(1)), 0);
	assert_state(r, 600, FLN_IMAGE_ZERO);
	assert_filled(r, 601);
	assert_int_equal(fln_image_discard(&r->image, BYTES(512), BYTES(512)), 0);
	assert_int_equal(fln_image_filled_bytes(&r->image), BYTES(8 + 4 + 512));
	rig_destroy(r);
}

static void whole_blocks_cost_nothing(void **state)
{
	struct rig *r = rig(3 * 512 + 40, 64);
	uint64_t before = fln_blockmap_bytes(&r->image.map);

	(void)state;
	for (uint64_t p = 0; p < 512; p++)
		r->hole[p] = true; /* a block of zeros, one of both, one of contents */
	r->hole[700] = true;
	assert_int_equal(fln_image_fill(&r->image, 0, BYTES(3 * 512 + 40)), 0);
	fln_blockmap_drain(&r->image.map);
	assert_int_equal(fln_blockmap_bytes(&r->image.map), before);
	assert_state(r, 5, FLN_IMAGE_ZERO);
	assert_filled(r, 3 * 512 + 39);
	assert_false(cached(r, 700)); /* called FILLED now; the hole says what it is */
	assert_int_equal(fln_image_note_hole(&r->image, 700, 8), 1);
	assert_state(r, 700, FLN_IMAGE_ZERO);
	assert_filled(r, 701);
	rig_destroy(r);
}

static void ready_pages_of_any_span(void **state)
{
	struct fln_mask filled, zero;
	struct rig *r = rig(1024, 1);

	(void)state;
	rig_put(r, 500, 24);
	fln_image_give_up(&r->image, 510, 20);
	fln_image_give_up(&r->image, 524, 6);
	fln_rcu_read_lock();
	fln_image_ready(&r->image, 490, 512, &filled, &zero);
	fln_rcu_read_unlock();
	assert_int_equal(fln_mask_next_set(&filled, 0), 10);
	assert_int_equal(fln_mask_count(&filled), 24);
	assert_int_equal(fln_mask_next_set(&zero, 0), 34);
	assert_int_equal(fln_mask_count(&zero), 6);
	rig_destroy(r);
}

static void bad_ranges(void **state)
{
	struct rig *r = rig(64, 1);
	static const uint64_t words[512];

	(void)state;
	assert_int_equal(fln_image_put(&r->image, 1, words, BYTES(1)), -EINVAL);
	assert_int_equal(fln_image_put(&r->image, 0, words, 0), -EINVAL);
	assert_int_equal(fln_image_put(&r->image, 0, words, 100), -EINVAL);
	assert_int_equal(fln_image_put(&r->image, BYTES(64), words, BYTES(1)), -EINVAL);
	assert_int_equal(fln_image_put(&r->image, 0, NULL, BYTES(1)), -EINVAL);
	assert_int_equal(fln_image_fill(&r->image, BYTES(63), BYTES(2)), -EINVAL);
	assert_int_equal(fln_image_discard(&r->image, UINT64_MAX - 4095, BYTES(1)), -EINVAL);
	assert_non_null(strstr(fln_last_error(), "262144"));
	rig_destroy(r);
}

static uint32_t nr_free_fills(const struct rig *r)
{
	uint32_t nr = 0;

	for (const struct fln_fill *f = r->filler.free; f; f = f->next)
		nr++;
	for (const struct fln_fill *f = r->filler.free_background; f; f = f->next)
		nr++;
	return nr;
}

/* The fill that a fault on a huge page waits for need not cover the page that was touched. */
static void a_fault_in_a_huge_page_speeds_up_its_missing_part(void **state)
{
	struct fln_image_want background = { .background = true };
	struct rig *r = rig(512, 512);
	struct fln_fill *fill;

	(void)state;
	rig_put(r, 3, 1);
	r->image.page_bytes = FLN_BLOCK_BYTES;
	assert_int_equal(fln_image_want(&r->image, 0, WAITER, &background), FLN_IMAGE_IS_PENDING);
	fill = r->image.queue.first;
	assert_non_null(fill);
	assert_int_equal(fill->page, 0);
	assert_int_equal(fill->nr_pages, 3);
	assert_true(atomic_load(&fill->background));
	assert_int_equal(fln_image_request(&r->image, 3, WAITER), FLN_IMAGE_IS_PENDING);
	assert_ptr_equal(r->image.queue.first, fill);
	assert_false(atomic_load(&fill->background));
	r->image.page_bytes = FLN_PAGE_BYTES;
	assert_int_equal(rig_fill(r, UINT32_MAX), 1);
	rig_destroy(r);
}

static void fills_that_nobody_began_go_back(void **state)
{
	struct rig *r = rig(64, 1);
	struct fln_image_init_opts opts = { .filler = &r->filler, .opts = FLN_IMAGE_OPTS_INIT };
	struct fln_image second;

	(void)state;
	opts.opts.len_bytes = BYTES(64);
	opts.opts.source = r->source;
	assert_int_equal(fln_image_init(&second, &opts), 0);
	for (uint64_t p = 0; p < 10; p++)
		assert_int_equal(fln_image_request(&second, p, WAITER), FLN_IMAGE_IS_PENDING);
	assert_int_equal(nr_free_fills(r), 54);
	assert_int_equal(fln_image_deinit(&second, UINT64_MAX), 0);
	assert_int_equal(nr_free_fills(r), 64);
	assert_int_equal(r->kicked, 1u << WAITER);
	rig_destroy(r);
}

static void run_an_unclaimed_fill(void *arg)
{
	struct rig *r = arg;
	struct fln_fill fill = { .image = &r->image, .page = 3, .nr_pages = 2 };

	fln_image_run_fill(&r->image, &fill, r->buffer);
}

static void moves_that_do_not_exist_abort(void **state)
{
	(void)state;
#ifdef FLN_DEBUG
	struct rig *r = rig(64, 1);

	assert_true(aborts(run_an_unclaimed_fill, r)); /* UNFILLED → FILLED */
	rig_put(r, 3, 2);
	assert_true(aborts(run_an_unclaimed_fill, r)); /* FILLED → FILLED */
	fln_image_give_up(&r->image, 3, 2);
	assert_int_equal(fln_image_discard(&r->image, BYTES(3), BYTES(2)), 0);
	assert_true(aborts(run_an_unclaimed_fill, r)); /* ZERO → FILLED */
	rig_destroy(r);
#else
	(void)run_an_unclaimed_fill;
	skip();
#endif
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_request_is_filled_and_then_told),
		cmocka_unit_test(two_requests_are_one_fill),
		cmocka_unit_test(a_fill_covers_its_window_as_far_as_that_is_open),
		cmocka_unit_test(put_loses_to_what_is_there),
		cmocka_unit_test(put_tells_waiting_workers),
		cmocka_unit_test(no_page_cache_is_to_be_had),
		cmocka_unit_test(what_is_given_up_is_never_read),
		cmocka_unit_test(given_up_while_it_is_read),
		cmocka_unit_test(given_up_while_its_read_fails),
		cmocka_unit_test(failed_pages),
		cmocka_unit_test(failures_are_retried),
		cmocka_unit_test(holes_of_the_source_are_not_read),
		cmocka_unit_test(holes_that_somebody_punched),
		cmocka_unit_test(discard_by_the_embedder),
		cmocka_unit_test(whole_blocks_cost_nothing),
		cmocka_unit_test(ready_pages_of_any_span),
		cmocka_unit_test(bad_ranges),
		cmocka_unit_test(a_fault_in_a_huge_page_speeds_up_its_missing_part),
		cmocka_unit_test(fills_that_nobody_began_go_back),
		cmocka_unit_test(moves_that_do_not_exist_abort),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
