/* SPDX-License-Identifier: MIT */
/* Events: what becomes of the map and of the image when a guest changes its mappings. */
#include "engine/events.h"
#include "base/clock.h"
#include "engine/block.h"
#include "engine/moves.h"
#include "engine/region_map.h"
#include "engine/serve.h"
#include "sources/image_state.h"
#include "tests/support/cm.h"
#include "tests/support/rig.h"

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

static void who_waits_in_what_is_unmapped_is_let_go(void **state)
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
static void who_waited_there_does_not_wait_for_what_comes(void **state)
{
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 64, .timeout_ns = FLN_NS_PER_S });
	uint32_t held = rig_touch(r, 5), read, t;

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
	/* They were woken, and what they find is theirs to wait for. */
	rig_settle(r);
	rig_assert_read(r, held, rig_due(r, 40));
	rig_assert_read(r, read, rig_due(r, 41));
	t = rig_touch(r, 6);
	rig_settle(r);
	rig_assert_read(r, t, rig_due(r, 41));
	rig_check_accounts(r);
	rig_destroy(r);
}

static void moved_pages_are_found_at_home(void **state)
{
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 64, .spare_pages = 256 });
	uint32_t a, b, old;

	(void)state;
	rig_put(r, 0, 40); /* the rest must be read */
	fake_remap(&r->fake, rig_addr(r, 0), rig_addr(r, 100), 64);
	old = fake_touch(&r->fake, rig_addr(r, 3));
	rig_assert_killed(r, old);
	a = fake_touch(&r->fake, rig_addr(r, 103));
	b = fake_touch(&r->fake, rig_addr(r, 150));
	rig_settle(r);
	rig_assert_read(r, a, rig_due(r, 3));
	rig_assert_read(r, b, rig_due(r, 50));
	assert_int_equal(fln_shard_unmove(&r->shard, rig_addr(r, 103)), rig_addr(r, 3));

	/* On and on, and a part alone. */
	fake_remap(&r->fake, rig_addr(r, 100), rig_addr(r, 170), 64);
	fake_remap(&r->fake, rig_addr(r, 173), rig_addr(r, 250), 5);
	rig_serve(r);
	fake_zap(&r->fake, RIG_ADDR, r->fake.nr_pages);
	a = fake_touch(&r->fake, rig_addr(r, 251));
	b = fake_touch(&r->fake, rig_addr(r, 170 + 33));
	rig_settle(r);
	rig_assert_read(r, a, rig_due(r, 4));
	rig_assert_read(r, b, rig_due(r, 33));
	rig_destroy(r);
}

static void discards_of_moved_pages(void **state)
{
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 64, .spare_pages = 256 });
	uint32_t a, b;

	(void)state;
	fake_remap(&r->fake, rig_addr(r, 0), rig_addr(r, 100), 64);
	rig_serve(r);
	fake_discard(&r->fake, rig_addr(r, 110), 4, true);
	rig_serve(r);
	assert_image(r, 9, FLN_IMAGE_UNFILLED);
	assert_image(r, 10, FLN_IMAGE_ZERO);
	assert_image(r, 13, FLN_IMAGE_ZERO);
	assert_image(r, 14, FLN_IMAGE_UNFILLED);
	a = fake_touch(&r->fake, rig_addr(r, 111));
	b = fake_touch(&r->fake, rig_addr(r, 114));
	rig_settle(r);
	rig_assert_read(r, a, 0);
	rig_assert_read(r, b, rig_due(r, 14));
	rig_destroy(r);
}

static void more_moves_than_are_followed(void **state)
{
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = FLN_MAX_MOVES + 1,
						  .spare_pages = 2 * FLN_MAX_MOVES + 8 });

	(void)state;
	/* There and back is no move. */
	for (uint32_t i = 0; i < 2 * FLN_MAX_MOVES; i++) {
		fake_remap(&r->fake, rig_addr(r, i % 2 ? 80 : 0), rig_addr(r, i % 2 ? 0 : 80), 4);
		rig_serve(r);
	}
	assert_int_equal(r->nr_log_lines, 0);
	fake_unmap(&r->fake, rig_addr(r, 80), 4);
	rig_serve(r);
	assert_int_equal(r->shard.nr_moves, 0);
	for (uint32_t i = 0; i <= FLN_MAX_MOVES; i++) {
		assert_false(r->shard.keep_open);
		fake_remap(&r->fake, rig_addr(r, i), rig_addr(r, FLN_MAX_MOVES + 2 + 2 * i), 1);
		rig_serve(r);
	}
	assert_int_equal(r->shard.nr_moves, FLN_MAX_MOVES);
	assert_int_equal(r->nr_log_lines, 1);
	assert_non_null(strstr(r->last_line, "mremap"));
	/* It may not be let go of: it would read zeros where the lost page is now. */
	assert_true(r->shard.keep_open);
	rig_destroy(r);
}

/* Moves of parts of what was moved before, and what is taken away of them. */
static void moves_are_split_and_cut(void **state)
{
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 32, .spare_pages = 200 });

	(void)state;
	fake_remap(&r->fake, rig_addr(r, 0), rig_addr(r, 100), 16);
	rig_serve(r);
	/* The middle of it goes on, together with nothing else. */
	fake_remap(&r->fake, rig_addr(r, 104), rig_addr(r, 140), 4);
	rig_serve(r);
	fake_unmap(&r->fake, rig_addr(r, 104), 4);
	rig_serve(r);
	assert_int_equal(fln_shard_unmove(&r->shard, rig_addr(r, 103)), rig_addr(r, 3));
	assert_int_equal(fln_shard_unmove(&r->shard, rig_addr(r, 104)), rig_addr(r, 104));
	assert_int_equal(fln_shard_unmove(&r->shard, rig_addr(r, 108)), rig_addr(r, 8));
	assert_int_equal(fln_shard_unmove(&r->shard, rig_addr(r, 142)), rig_addr(r, 6));
	/* A move over the boundary of two moves. */
	fake_remap(&r->fake, rig_addr(r, 108), rig_addr(r, 144), 8);
	rig_serve(r);
	fake_unmap(&r->fake, rig_addr(r, 108), 8);
	fake_remap(&r->fake, rig_addr(r, 142), rig_addr(r, 160), 6);
	rig_serve(r);
	assert_int_equal(fln_shard_unmove(&r->shard, rig_addr(r, 161)), rig_addr(r, 7));
	assert_int_equal(fln_shard_unmove(&r->shard, rig_addr(r, 162)), rig_addr(r, 8));
	assert_int_equal(fln_shard_unmove(&r->shard, rig_addr(r, 165)), rig_addr(r, 11));
	assert_int_equal(fln_shard_unmove(&r->shard, rig_addr(r, 166)), rig_addr(r, 166));
	/* What comes to lie there hides what was there. */
	fake_remap(&r->fake, rig_addr(r, 20), rig_addr(r, 161), 2);
	rig_serve(r);
	assert_int_equal(fln_shard_unmove(&r->shard, rig_addr(r, 160)), rig_addr(r, 6));
	assert_int_equal(fln_shard_unmove(&r->shard, rig_addr(r, 161)), rig_addr(r, 20));
	assert_int_equal(fln_shard_unmove(&r->shard, rig_addr(r, 163)), rig_addr(r, 9));
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
	assert_int_equal(rig_count(&r->shard.count.failed), 0);
	assert_int_equal(r->worker.nr_held, 1);
	assert_int_equal(r->nr_log_lines, 0);
	rig_settle(r);
	rig_assert_read(r, t, rig_due(r, 5));
	assert_int_equal(rig_count(&r->shard.count.faults), 1);
	rig_destroy(r);
}

/* Pages that lay side by side do so no more: a window must not map them over others. */
static void windows_end_where_a_move_ends(void **state)
{
	struct rig *r = rig_of((struct rig_opts){
		.nr_pages = 64, .spare_pages = 256, .window = 16, .foreign = true });
	uint32_t a, b;

	(void)state;
	rig_put(r, 0, 64);
	fake_remap(&r->fake, rig_addr(r, 0), rig_addr(r, 100), 1);
	fake_remap(&r->fake, rig_addr(r, 32), rig_addr(r, 101), 1);
	rig_serve(r);
	a = fake_touch(&r->fake, rig_addr(r, 100));
	rig_settle(r);
	b = fake_touch(&r->fake, rig_addr(r, 101));
	rig_settle(r);
	rig_assert_read(r, a, rig_due(r, 0));
	rig_assert_read(r, b, rig_due(r, 32));
	assert_int_equal(rig_count(&r->shard.count.pages_installed), 2);
	rig_destroy(r);
}

/* mremap() tells of the place that was left; what it took along stays known. */
static void what_was_moved_is_not_forgotten(void **state)
{
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 64, .spare_pages = 256 });

	(void)state;
	map_pages(r, 0, 8);
	fake_remap(&r->fake, rig_addr(r, 0), rig_addr(r, 100), 4);
	fake_unmap(&r->fake, rig_addr(r, 0), 4);
	rig_serve(r);
	assert_true(is_present(r, 3));
	fake_remap(&r->fake, rig_addr(r, 100), rig_addr(r, 200), 4);
	fake_unmap(&r->fake, rig_addr(r, 100), 4);
	rig_serve(r);
	assert_true(is_present(r, 3));
	fake_unmap(&r->fake, rig_addr(r, 200), 2);
	rig_serve(r);
	assert_false(is_present(r, 1));
	assert_true(is_present(r, 2));
	rig_destroy(r);
}

/*
 * A fault is held for a place that mremap() has left before it was served.  What the map
 * says of the page (that it is mapped, or poisoned) is said of where it lies now.
 */
static void a_fault_at_a_place_that_was_left(void **state)
{
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 64, .spare_pages = 256 });
	struct fln_fault old = { .addr = rig_addr(r, 5), .nr = 1, .t0_ns = 1 };

	(void)state;
	map_pages(r, 0, 8);
	fake_remap(&r->fake, rig_addr(r, 0), rig_addr(r, 100), 8);
	fake_unmap(&r->fake, rig_addr(r, 0), 8);
	rig_serve(r);
	assert_true(is_present(r, 5));
	fln_count(&r->shard.count.faults, 1);
	fln_serve_faults(&r->worker, &r->shard, &old, 1);
	assert_true(is_present(r, 5));
	assert_int_equal(rig_count(&r->shard.count.refaults), 0);
	rig_destroy(r);
}

static void events_that_nobody_knows(void **state)
{
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 4 });
	struct uffd_msg msg = { .event = 0x77 };

	(void)state;
	fln_event(&r->worker, &r->shard, &msg);
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
		cmocka_unit_test(who_waits_in_what_is_unmapped_is_let_go),
		cmocka_unit_test(who_waited_there_does_not_wait_for_what_comes),
		cmocka_unit_test(moved_pages_are_found_at_home),
		cmocka_unit_test(discards_of_moved_pages),
		cmocka_unit_test(more_moves_than_are_followed),
		cmocka_unit_test(moves_are_split_and_cut),
		cmocka_unit_test(a_fault_comes_before_its_move),
		cmocka_unit_test(windows_end_where_a_move_ends),
		cmocka_unit_test(what_was_moved_is_not_forgotten),
		cmocka_unit_test(a_fault_at_a_place_that_was_left),
		cmocka_unit_test(events_that_nobody_knows),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
