/* SPDX-License-Identifier: MIT */
/* Events: what becomes of the map and of the image when a guest changes its mappings. */
#include "engine/events.h"
#include "base/blockmap.h"
#include "base/clock.h"
#include "engine/region_map.h"
#include "engine/serve.h"
#include "engine/serve_block.h"
#include "engine/state/guest.h"
#include "engine/state/worker.h"
#include "sources/image.h"
#include "sources/image_cache.h"
#include "sources/image_state.h"
#include "tests/support/cm.h"
#include "tests/support/rig.h"

#include <faultlane/guest.h>
#include <stdbool.h>
#include <string.h>

static struct rig *rig_of(struct rig_opts opts)
{
	return rig_create(&opts);
}

static void assert_image(struct rig *r, uint64_t page, enum fln_image_page state)
{
	assert_int_equal(fln_image_state(&r->image, rig_image_page(r, page)), state);
}

/* ZERO; or, in a block of which nothing is due any more, FILLED without a page. */
static void assert_zero(struct rig *r, uint64_t page)
{
	enum fln_image_page state = fln_image_state(&r->image, rig_image_page(r, page));

	assert_true(state == FLN_IMAGE_ZERO || state == FLN_IMAGE_FILLED);
	assert_int_equal(fln_image_hole(&r->image, rig_image_page(r, page), 1), 1);
}

static bool is_present(struct rig *r, uint64_t page)
{
	return rig_map_says(r, FLN_PLANE_PRESENT, page);
}

/* Map pages by touching them one by one. */
static void map_pages(struct rig *r, uint64_t page, uint64_t nr_pages)
{
	rig_put(r, page, nr_pages);
	for (uint64_t p = page; p < page + nr_pages; p++) {
		uint32_t t = rig_touch(r, p);

		rig_settle(r);
		rig_assert_read(r, t, rig_due(r, p));
		fake_reap(&r->fake, t);
	}
}

static void remove_forgets_and_gives_up(void **state)
{
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 1024, .lead_pages = 9 });

	(void)state;
	map_pages(r, 0, 32);
	fake_discard(&r->fake, rig_addr(r, 10), 900, false);
	rig_serve(r);
	assert_int_equal(rig_count(&r->shard.count.events), 1);
	for (uint64_t p = 0; p < 32; p++) {
		assert_int_equal(is_present(r, p), p < 10);
		/* It was filled: the page cache knows whether it is still due. */
		assert_image(r, p, FLN_IMAGE_FILLED);
	}
	assert_zero(r, 32);
	assert_zero(r, 909);
	assert_image(r, 910, FLN_IMAGE_UNFILLED);
	rig_destroy(r);
}

static void dontneed_brings_contents_back_and_remove_zeros(void **state)
{
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 64 });
	uint32_t a, b, c;

	(void)state;
	map_pages(r, 0, 2);
	fake_discard(&r->fake, rig_addr(r, 0), 1, false);
	fake_discard(&r->fake, rig_addr(r, 1), 2, true);
	rig_serve(r);
	a = rig_touch(r, 0);
	b = rig_touch(r, 1);
	c = rig_touch(r, 2);
	rig_settle(r);
	rig_assert_read(r, a, rig_due(r, 0));
	rig_assert_read(r, b, 0);
	rig_assert_read(r, c, 0); /* it was never filled, and is not read now */
	assert_int_equal(r->nr_reads[2], 0);
	assert_int_equal(rig_count(&r->shard.count.zero), 2);
	rig_destroy(r);
}

static void discards_that_are_not_meant(void **state)
{
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 64, .discard = FLN_DISCARD_IMAGE });
	uint32_t t;

	(void)state;
	fake_discard(&r->fake, rig_addr(r, 0), 8, false);
	rig_serve(r);
	assert_image(r, 3, FLN_IMAGE_UNFILLED);
	t = rig_touch(r, 3);
	rig_settle(r);
	rig_assert_read(r, t, rig_due(r, 3));
	rig_destroy(r);
}

static void a_whole_block_is_forgotten_without_a_chunk(void **state)
{
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 1024, .window = 512 });
	uint32_t t;

	(void)state;
	rig_put(r, 0, 1024);
	(void)rig_touch(r, 0);
	(void)rig_touch(r, 600);
	rig_settle(r);
	assert_int_equal(fln_blockmap_uniform(&r->region.map, 0), 1 << FLN_PLANE_PRESENT);
	fake_discard(&r->fake, rig_addr(r, 0), 520, false);
	rig_serve(r);
	assert_int_equal(fln_blockmap_uniform(&r->region.map, 0), 0);
	assert_false(is_present(r, 519));
	assert_true(is_present(r, 520));
	t = rig_touch(r, 5);
	rig_settle(r);
	rig_assert_read(r, t, rig_due(r, 5));
	assert_int_equal(rig_count(&r->shard.count.refaults), 0);
	rig_destroy(r);
}

static void discarded_foreign_memory_is_zero(void **state)
{
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 1024, .foreign = true });
	uint32_t a, b, c;

	(void)state;
	map_pages(r, 0, 4);
	fake_discard(&r->fake, rig_addr(r, 2), 1022, false);
	rig_serve(r);
	assert_image(r, 2, FLN_IMAGE_FILLED); /* other guests may share it */
	assert_image(r, 5, FLN_IMAGE_UNFILLED);
	a = rig_touch(r, 1);
	b = rig_touch(r, 2);
	c = rig_touch(r, 700); /* of a block that is uniformly DISCARDED */
	rig_settle(r);
	rig_assert_read(r, a, rig_due(r, 1));
	rig_assert_read(r, b, 0);
	rig_assert_read(r, c, 0);
	assert_int_equal(r->nr_reads[700], 0);
	rig_destroy(r);
}

static void discards_of_foreign_memory_survive_an_empty_pool(void **state)
{
	struct rig *r = rig_of((struct rig_opts){
		.nr_pages = 1024, .foreign = true, .nr_chunks = 1, .window = 512 });
	uint32_t t;

	(void)state;
	rig_put(r, 0, 1024);
	(void)rig_touch(r, 0); /* block 0 becomes whole: its chunk is on the way back */
	rig_settle(r);
	fake_discard(&r->fake, rig_addr(r, 520), 8, false); /* and is waited for */
	rig_serve(r);
	t = rig_touch(r, 523);
	rig_settle(r);
	rig_assert_read(r, t, 0);
	rig_destroy(r);
}

/*
 * The event is told before the pages go: zeros that are mapped in between go too,
 * and zeros are due again.
 */
static void discarded_foreign_memory_stays_zero(void **state)
{
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 64, .foreign = true, .window = 1 });
	uint32_t t;

	(void)state;
	rig_put(r, 0, 64);
	fake_discard(&r->fake, rig_addr(r, 3), 1, false);
	fln_serve_shard(&r->worker, &r->shard);
	t = rig_touch(r, 3);
	fln_serve_shard(&r->worker, &r->shard);
	assert_int_equal(fake_page(&r->fake, rig_addr(r, 3))->pte, FAKE_MAPPED);
	fake_run(&r->fake);
	assert_int_equal(rig_thread(r, t)->state, FAKE_QUEUED);
	rig_settle(r);
	rig_assert_read(r, t, 0);
	rig_destroy(r);
}

/* Nor does a block forget it when it becomes whole and gives its chunk back. */
static void a_whole_block_remembers_its_discards(void **state)
{
	(void)state;
	for (uint32_t nr = 1; nr <= 512; nr += 511) {
		struct rig *r = rig_of(
			(struct rig_opts){ .nr_pages = 512, .foreign = true, .window = 512 });
		uint32_t t;

		rig_put(r, 0, 512);
		fake_discard(&r->fake, rig_addr(r, 0), nr, false);
		fln_serve_shard(&r->worker, &r->shard);
		for (uint32_t p = 0; p < nr; p++)
			(void)rig_touch(r, p);
		(void)rig_touch(r, 511);
		do {
			fln_serve_shard(&r->worker, &r->shard);
			fln_serve_later(&r->worker, UINT32_MAX);
		} while (fake_count(&r->fake, FAKE_QUEUED) > 0);
		assert_int_equal(fake_nr_mapped(&r->fake), 512);
		fake_run(&r->fake); /* only now the discarded pages go */
		rig_settle(r);
		t = rig_touch(r, nr - 1);
		rig_settle(r);
		rig_assert_read(r, t, 0);
		rig_destroy(r);
	}
}

static void unmap_forgets_and_gives_nothing_up(void **state)
{
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 64 });
	uint32_t near;

	(void)state;
	map_pages(r, 0, 4);
	fake_unmap(&r->fake, rig_addr(r, 2), 8);
	rig_serve(r);
	assert_true(is_present(r, 1));
	assert_false(is_present(r, 2));
	assert_image(r, 2, FLN_IMAGE_FILLED);
	assert_image(r, 8, FLN_IMAGE_UNFILLED);
	/* Windows that reach into what has gone do not hold anybody up. */
	rig_put(r, 4, 60);
	near = rig_touch(r, 11);
	rig_settle(r);
	rig_assert_read(r, near, rig_due(r, 11));
	assert_int_equal(rig_thread(r, near)->nr_faults, 1);
	rig_destroy(r);
}

static void a_fault_in_what_is_unmapped_ends(void **state)
{
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 64 });
	uint32_t t = rig_touch(r, 5);

	(void)state;
	rig_serve(r); /* held: the page must be read */
	assert_int_equal(r->worker.nr_held, 1);
	fake_unmap(&r->fake, rig_addr(r, 5), 1);
	rig_settle(r);
	rig_assert_killed(r, t);
	assert_int_equal(rig_count(&r->shard.count.failed), 1);
	rig_destroy(r);
}

/* And whatever mremap() puts there next was asked for by nobody. */
static void a_fault_that_waited_there_does_not_wait_for_what_comes(void **state)
{
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 64, .timeout_ns = FLN_NS_PER_S });
	uint32_t held = rig_touch(r, 5), read;

	(void)state;
	rig_serve(r);
	assert_int_equal(r->worker.nr_held, 1);
	read = rig_touch(r, 6); /* comes in one batch with the event */
	fake_unmap(&r->fake, rig_addr(r, 5), 2);
	fake_remap(&r->fake, rig_addr(r, 40), rig_addr(r, 5), 2);
	rig_serve(r);
	assert_int_equal(r->worker.nr_held, 0);
	assert_int_equal(rig_count(&r->shard.count.faults), 2);
	assert_int_equal(rig_count(&r->shard.count.failed), 2);
	rig_pass_time(r, 2 * FLN_NS_PER_S);
	rig_held(r);
	assert_int_equal(fake_page(&r->fake, rig_addr(r, 5))->pte, FAKE_ABSENT);
	assert_int_equal(fake_page(&r->fake, rig_addr(r, 6))->pte, FAKE_ABSENT);
	/* They were woken, and what they find is not served. */
	rig_settle(r);
	rig_assert_killed(r, held);
	rig_assert_killed(r, read);
	rig_check_accounts(r);
	rig_destroy(r);
}

/* What mremap() has moved is not served: not there, and not in place of what it lies on. */
static void what_was_moved_is_unreadable(void **state)
{
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 64, .spare_pages = 256 });
	uint32_t a, b, c;

	(void)state;
	rig_put(r, 0, 32);
	map_pages(r, 0, 4);
	fake_remap(&r->fake, rig_addr(r, 0), rig_addr(r, 100), 40);
	fake_unmap(&r->fake, rig_addr(r, 0), 40);
	rig_settle(r);
	assert_false(is_present(r, 3));
	a = fake_touch(&r->fake, rig_addr(r, 120)); /* filled */
	b = fake_touch(&r->fake, rig_addr(r, 135)); /* not filled */
	c = fake_touch(&r->fake, rig_addr(r, 50));
	rig_settle(r);
	rig_assert_killed(r, a);
	rig_assert_killed(r, b);
	rig_assert_read(r, c, rig_due(r, 50));
	assert_int_equal(rig_count(&r->shard.count.failed), 2);
	/* Contents that come later change nothing. */
	rig_put(r, 35, 1);
	a = fake_touch(&r->fake, rig_addr(r, 135));
	rig_settle(r);
	rig_assert_killed(r, a);
	rig_check_accounts(r);
	rig_destroy(r);
}

/* It lies on a part of the region: no window reaches across, no discard there is the region's. */
static void what_was_moved_onto_the_region(void **state)
{
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 64, .window = 16 });
	uint32_t a, b;

	(void)state;
	rig_put(r, 0, 16);
	fake_unmap(&r->fake, rig_addr(r, 5), 2);
	fake_remap(&r->fake, rig_addr(r, 40), rig_addr(r, 5), 2);
	rig_serve(r);
	fake_run(&r->fake);
	a = fake_touch(&r->fake, rig_addr(r, 8));
	rig_settle(r);
	rig_assert_read(r, a, rig_due(r, 8));
	assert_true(is_present(r, 4));
	assert_int_equal(fake_page(&r->fake, rig_addr(r, 5))->pte, FAKE_ABSENT);
	assert_int_equal(fake_page(&r->fake, rig_addr(r, 6))->pte, FAKE_ABSENT);
	fake_discard(&r->fake, rig_addr(r, 4), 4, false);
	rig_settle(r);
	assert_image(r, 5, FLN_IMAGE_FILLED);
	b = fake_touch(&r->fake, rig_addr(r, 6));
	rig_settle(r);
	rig_assert_killed(r, b);
	rig_check_accounts(r);
	rig_destroy(r);
}

/* The old place stays registered (MREMAP_DONTUNMAP): it is served anew. */
static void a_place_that_was_left_is_served(void **state)
{
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 64, .spare_pages = 256 });
	uint32_t t;

	(void)state;
	map_pages(r, 0, 8);
	fake_remap(&r->fake, rig_addr(r, 0), rig_addr(r, 100), 8);
	rig_settle(r);
	fake_map(&r->fake, rig_addr(r, 0), 8, r->image.memfd, rig_image_page(r, 0));
	assert_false(is_present(r, 5));
	t = fake_touch(&r->fake, rig_addr(r, 5));
	rig_settle(r);
	rig_assert_read(r, t, rig_due(r, 5));
	rig_destroy(r);
}

/* The fault was read, and the event that says what lies there was not. */
static void a_fault_comes_before_its_move(void **state)
{
	struct rig *r =
		rig_of((struct rig_opts){ .nr_pages = 64, .spare_pages = 256, .batch_max = 1 });
	uint32_t t;

	(void)state;
	rig_put(r, 0, 64);
	fake_remap(&r->fake, rig_addr(r, 0), rig_addr(r, 100), 64);
	t = fake_touch(&r->fake, rig_addr(r, 105));
	rig_serve(r);
	assert_int_equal(r->worker.nr_held, 1);
	rig_settle(r);
	rig_assert_killed(r, t);
	assert_int_equal(rig_count(&r->shard.count.faults), 1);
	rig_destroy(r);
}

static void events_that_nobody_knows(void **state)
{
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 4 });
	struct uffd_msg msg = { .event = 0x77 };

	(void)state;
	fln_shard_event(&r->shard, &r->worker, &msg);
	assert_non_null(strstr(r->last_line, "0x77"));
	rig_destroy(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(remove_forgets_and_gives_up),
		cmocka_unit_test(dontneed_brings_contents_back_and_remove_zeros),
		cmocka_unit_test(discards_that_are_not_meant),
		cmocka_unit_test(a_whole_block_is_forgotten_without_a_chunk),
		cmocka_unit_test(discarded_foreign_memory_is_zero),
		cmocka_unit_test(discards_of_foreign_memory_survive_an_empty_pool),
		cmocka_unit_test(discarded_foreign_memory_stays_zero),
		cmocka_unit_test(a_whole_block_remembers_its_discards),
		cmocka_unit_test(unmap_forgets_and_gives_nothing_up),
		cmocka_unit_test(a_fault_in_what_is_unmapped_ends),
		cmocka_unit_test(a_fault_that_waited_there_does_not_wait_for_what_comes),
		cmocka_unit_test(what_was_moved_is_unreadable),
		cmocka_unit_test(what_was_moved_onto_the_region),
		cmocka_unit_test(a_place_that_was_left_is_served),
		cmocka_unit_test(a_fault_comes_before_its_move),
		cmocka_unit_test(events_that_nobody_knows),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
