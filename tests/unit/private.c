/* SPDX-License-Identifier: MIT */
/* Private regions on the fake kernel: what is given up, what zeros cost, and the end. */
#include "base/blockmap.h"
#include "base/page.h"
#include "engine/life/closing.h"
#include "engine/region_map.h"
#include "engine/state/guest.h"
#include "sources/filler.h"
#include "sources/image.h"
#include "sources/image_discard.h"
#include "sources/image_state.h"
#include "tests/support/cm.h"
#include "tests/support/rig.h"

#include <errno.h>
#include <faultlane/guest.h>
#include <faultlane/image.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

static struct rig *rig_of(struct rig_opts opts)
{
	opts.is_private = true;
	return rig_create(&opts);
}

static void assert_image(struct rig *r, uint64_t page, enum fln_image_page state)
{
	assert_int_equal(fln_image_state(&r->image, rig_image_page(r, page)), state);
}

static void discard(struct rig *r, uint64_t page, uint64_t nr_pages)
{
	fake_discard(&r->fake, rig_addr(r, page), nr_pages, false);
	rig_serve(r);
}

/* A thread touches the page now, and reads @value. */
static void expect(struct rig *r, uint64_t page, uint64_t value)
{
	uint32_t t = rig_touch(r, page);

	rig_settle(r);
	rig_assert_read(r, t, value);
	fake_reap(&r->fake, t);
}

static void a_discard_is_the_guests_own(void **state)
{
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 1024, .lead_pages = 9 });

	(void)state;
	rig_put(r, 0, 32);
	expect(r, 5, rig_due(r, 5));
	fake_write(&r->fake, rig_addr(r, 5), 77);
	discard(r, 3, 800);
	for (uint64_t p = 0; p < 32; p++) {
		assert_image(r, p, FLN_IMAGE_FILLED);
		assert_int_equal(rig_map_says(r, FLN_PLANE_DISCARDED, p), p >= 3);
	}
	assert_image(r, 32, FLN_IMAGE_UNFILLED);
	/* A minor fault, for the cache has the page: zeros all the same. */
	memset(r->fake.nr_calls, 0, sizeof(r->fake.nr_calls));
	expect(r, 5, 0);
	expect(r, 500, 0);
	assert_int_equal(r->fake.nr_calls[FAKE_CONTINUE], 0);
	assert_int_equal(r->nr_source_reads, 0);
	expect(r, 2, rig_due(r, 2));
	/* Once more: the map may call it PRESENT, zero is due for good. */
	fake_write(&r->fake, rig_addr(r, 5), 78);
	discard(r, 5, 1);
	expect(r, 5, 0);
	fake_zap(&r->fake, rig_addr(r, 5), 1);
	expect(r, 5, 0);
	rig_destroy(r);
}

static void discards_can_bring_the_image_back(void **state)
{
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 600, .discard = FLN_DISCARD_IMAGE });

	(void)state;
	rig_put(r, 0, 16);
	expect(r, 3, rig_due(r, 3));
	fake_write(&r->fake, rig_addr(r, 3), 77);
	discard(r, 0, 600);
	assert_false(rig_map_says(r, FLN_PLANE_DISCARDED, 3));
	assert_false(rig_map_says(r, FLN_PLANE_PRESENT, 3));
	expect(r, 3, rig_due(r, 3));
	assert_image(r, 599, FLN_IMAGE_UNFILLED);
	expect(r, 599, rig_due(r, 599));
	rig_destroy(r);
}

/* A thread that waits for a fill need not wait for it any more. */
static void a_discard_while_the_page_is_filled(void **state)
{
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 64 });
	uint32_t t = rig_touch(r, 7);

	(void)state;
	rig_serve(r);
	assert_int_equal(rig_thread(r, t)->state, FAKE_WAITING);
	discard(r, 7, 1);
	rig_held(r);
	rig_assert_read(r, t, 0);
	assert_image(r, 7, FLN_IMAGE_FILLING);
	assert_int_equal(rig_fill(r, UINT32_MAX), 1);
	assert_image(r, 7, FLN_IMAGE_FILLED); /* for the others */
	fake_zap(&r->fake, rig_addr(r, 7), 1);
	expect(r, 7, 0);
	rig_destroy(r);
}

static void zeros_cost_nothing_and_go_with_the_window(void **state)
{
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 1024, .window = 512 });

	(void)state;
	for (uint64_t p = 0; p < 512; p++)
		r->hole[p] = true;
	r->opts.fill_pages = 512;
	assert_int_equal(fln_image_fill(&r->image, 0, FLN_BLOCK_BYTES), 0);
	expect(r, 100, 0);
	assert_int_equal(fake_nr_mapped(&r->fake), 512);
	assert_true(r->fake.nr_calls[FAKE_ZEROPAGE] <= 3); /* the front, and both sides of it */
	assert_int_equal(r->fake.nr_calls[FAKE_CONTINUE], 0);
	for (uint64_t p = 0; p < 512; p++)
		assert_int_equal(lseek(r->image.memfd, (off_t)fln_pages_to_bytes(p), SEEK_DATA),
				 -1);
	rig_destroy(r);
}

/* A shared guest has written where the image had a hole: that is its contents now. */
static void a_zero_page_that_was_written_since(void **state)
{
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 64, .window = 64 });
	uint64_t words[FLN_PAGE_BYTES / sizeof(uint64_t)];

	(void)state;
	fln_image_give_up(&r->image, 0, 64);
	for (uint32_t i = 0; i < FLN_PAGE_BYTES / sizeof(uint64_t); i++)
		words[i] = 4711;
	assert_int_equal(pwrite(r->image.memfd, words, sizeof(words), 20 * FLN_PAGE_BYTES),
			 sizeof(words));
	assert_image(r, 20, FLN_IMAGE_ZERO);
	expect(r, 19, 0);
	expect(r, 20, 4711);
	expect(r, 21, 0);
	assert_int_equal(fake_nr_mapped(&r->fake), 64);
	/* But not where this guest gave it up. */
	discard(r, 20, 1);
	expect(r, 20, 0);
	rig_destroy(r);
}

static void eexist_of_zeros_means_mapped(void **state)
{
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 64, .window = 1 });
	uint32_t t;

	(void)state;
	rig_put(r, 0, 64);
	discard(r, 9, 1);
	t = rig_touch(r, 9);
	/* Somebody else was faster. */
	fake_page(&r->fake, rig_addr(r, 9))->pte = FAKE_MAPPED;
	fake_page(&r->fake, rig_addr(r, 9))->own = true;
	rig_serve(r);
	rig_assert_read(r, t, 0);
	assert_int_equal(r->fake.nr_calls[FAKE_CONTINUE], 0);
	assert_int_equal(r->fake.nr_calls[FAKE_ZEROPAGE], 1);
	assert_int_equal(r->fake.nr_wake_calls, 1);
	rig_destroy(r);
}

static void holes_of_a_filled_image(void **state)
{
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 64, .window = 64 });

	(void)state;
	rig_put(r, 0, 64);
	fake_punch(&r->fake, rig_addr(r, 10), 20);
	expect(r, 12, 0);
	expect(r, 9, rig_due(r, 9));
	expect(r, 30, rig_due(r, 30));
	assert_int_equal(fake_nr_mapped(&r->fake), 64);
	assert_int_equal(r->fake.nr_pages_done[FAKE_ZEROPAGE], 20);
	rig_destroy(r);
}

/* CONTINUE found no page, and then there was one: zeros would hide it. */
static void a_hole_that_has_come_back(void **state)
{
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 64, .window = 1 });

	(void)state;
	rig_put(r, 0, 64);
	r->fake.fail_in = 1;
	r->fake.fail_errno = EFAULT;
	expect(r, 12, rig_due(r, 12));
	assert_int_equal(r->fake.nr_calls[FAKE_ZEROPAGE], 0);
	assert_image(r, 12, FLN_IMAGE_FILLED);
	rig_destroy(r);
}

static void blocks_collapse(void **state)
{
	struct rig *r =
		rig_of((struct rig_opts){ .nr_pages = 1024, .window = 512, .spare_pages = 1024 });
	uint32_t both = 1u << FLN_PLANE_PRESENT | 1u << FLN_PLANE_DISCARDED;

	(void)state;
	rig_put(r, 0, 1024);
	expect(r, 600, rig_due(r, 600));
	assert_int_equal(fln_blockmap_uniform(&r->region.map, 1), 1u << FLN_PLANE_PRESENT);
	discard(r, 0, 512);
	expect(r, 100, 0);
	assert_int_equal(fln_blockmap_uniform(&r->region.map, 0), both);
	/* One page of a block that is whole: which one must not be forgotten. */
	discard(r, 700, 1);
	expect(r, 700, 0);
	assert_int_equal(fln_blockmap_uniform(&r->region.map, 1), -1);
	fake_zap(&r->fake, rig_addr(r, 512), 512);
	expect(r, 699, rig_due(r, 699));
	expect(r, 700, 0);
	rig_destroy(r);
}

static void closing(void **state)
{
	struct rig *r =
		rig_of((struct rig_opts){ .nr_pages = 700, .lead_pages = 100, .window = 1 });
	uint32_t waits, waits_for_zero;

	(void)state;
	rig_put(r, 600, 50);
	expect(r, 605, rig_due(r, 605));
	expect(r, 620, rig_due(r, 620));
	fake_write(&r->fake, rig_addr(r, 620), 77);
	discard(r, 590, 20); /* filled or not, mapped or not */
	discard(r, 30, 1);
	expect(r, 600, 0);
	fake_write(&r->fake, rig_addr(r, 600), 78); /* given up, and written again */
	waits = rig_touch(r, 1);
	rig_serve(r);
	waits_for_zero = rig_touch(r, 30);
	r->shard.worker = NULL;
	assert_int_equal(fln_region_close(&r->region), 0);
	fake_run(&r->fake);
	rig_assert_killed(r, waits);
	/* Nobody reads events: what is not the guest's own cannot be zero, and is not the image's. */
	rig_assert_killed(r, waits_for_zero);
	for (uint64_t p = 0; p < 700; p++) {
		const struct fake_page *page = fake_page(&r->fake, rig_addr(r, p));
		bool given_up = (p >= 590 && p < 610) || p == 30;
		bool filled = p >= 600 && p < 650;

		assert_int_equal(page->denied, p != 600 && (given_up || !filled)); /* I6 */
		if (p == 600 || p == 620)
			assert_int_equal(fake_contents(page), p == 600 ? 78 : 77);
	}
	rig_destroy(r);
}

/* Faults that come while the region is closed are counted as what they will find. */
static void a_fault_during_the_end(void **state)
{
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 64, .window = 1 });
	uint32_t given_up, unfilled;

	(void)state;
	discard(r, 9, 1);
	atomic_store(&r->region.closing, true);
	given_up = rig_touch(r, 9);
	unfilled = rig_touch(r, 10);
	rig_serve(r);
	assert_int_equal(rig_count(&r->shard.count.zero), 1);
	assert_int_equal(rig_count(&r->shard.count.resumed), 1);
	assert_int_equal(rig_count(&r->shard.count.poisoned), 1);
	r->shard.worker = NULL;
	assert_int_equal(fln_region_close(&r->region), 0);
	fake_run(&r->fake);
	rig_assert_killed(r, given_up); /* no worker */
	rig_assert_killed(r, unfilled);
	rig_destroy(r);
}

/* A sealed mapping: what must not be read is poisoned, and stays registered. */
static void closing_where_access_stays(void **state)
{
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 64, .window = 1 });

	(void)state;
	rig_put(r, 0, 60);
	discard(r, 9, 3);
	r->shard.worker = NULL;
	r->fake.deny_errno = EPERM;
	assert_int_equal(fln_region_close(&r->region), -EIO);
	for (uint64_t p = 0; p < 64; p++)
		assert_int_equal(fake_page(&r->fake, rig_addr(r, p))->pte,
				 (p >= 9 && p < 12) || p >= 60 ? FAKE_POISONED : FAKE_ABSENT);
	assert_true(r->region.sealed);
	assert_true(r->region.unsafe);
	assert_true(r->shard.keep_open);
	rig_destroy(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_discard_is_the_guests_own),
		cmocka_unit_test(discards_can_bring_the_image_back),
		cmocka_unit_test(a_discard_while_the_page_is_filled),
		cmocka_unit_test(zeros_cost_nothing_and_go_with_the_window),
		cmocka_unit_test(a_zero_page_that_was_written_since),
		cmocka_unit_test(eexist_of_zeros_means_mapped),
		cmocka_unit_test(holes_of_a_filled_image),
		cmocka_unit_test(a_hole_that_has_come_back),
		cmocka_unit_test(blocks_collapse),
		cmocka_unit_test(closing),
		cmocka_unit_test(a_fault_during_the_end),
		cmocka_unit_test(closing_where_access_stays),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
