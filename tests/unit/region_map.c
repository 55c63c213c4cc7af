/* SPDX-License-Identifier: MIT */
/* States of a region's pages: every move that exists, and that others abort. */
#include "engine/region_map.h"
#include "base/blockmap.h"
#include "base/page.h"
#include "base/rcu.h"

#include "tests/support/cm.h"
#include "tests/support/death.h"

#include <stdbool.h>

struct fixture {
	struct fln_blockmap map;
	struct fln_chunk *c;
};

static void setup(struct fixture *f)
{
	assert_int_equal(fln_blockmap_init(&f->map, 0, FLN_BLOCK_PAGES, 4, 0), 0);
	fln_rcu_read_lock();
	f->c = fln_blockmap_chunk(&f->map, 0);
	assert_non_null(f->c);
}

static void teardown(struct fixture *f)
{
	fln_rcu_read_unlock();
	fln_blockmap_deinit(&f->map);
}

static enum fln_region_page state_of(const struct fln_chunk *c, uint32_t page)
{
	static const enum fln_region_page states[] = {
		[FLN_PLANE_CLAIMED] = FLN_PAGE_CLAIMED,
		[FLN_PLANE_PRESENT] = FLN_PAGE_PRESENT,
		[FLN_PLANE_POISONED] = FLN_PAGE_POISONED,
	};
	enum fln_region_page state = FLN_PAGE_ABSENT;

	for (uint32_t p = FLN_PLANE_CLAIMED; p <= FLN_PLANE_POISONED; p++) {
		struct fln_mask m = fln_chunk_load(c, p);

		if (fln_mask_test(&m, page)) {
			assert_int_equal(state, FLN_PAGE_ABSENT); /* in one state only */
			state = states[p];
		}
	}
	return state;
}

static void the_table(void **state)
{
	static const bool may[FLN_PAGE_NR_STATES][FLN_PAGE_NR_STATES] = {
		[FLN_PAGE_ABSENT] = { [FLN_PAGE_CLAIMED] = true },
		[FLN_PAGE_CLAIMED] = { [FLN_PAGE_PRESENT] = true,
				       [FLN_PAGE_ABSENT] = true,
				       [FLN_PAGE_POISONED] = true },
		[FLN_PAGE_PRESENT] = { [FLN_PAGE_ABSENT] = true, [FLN_PAGE_POISONED] = true },
		[FLN_PAGE_POISONED] = { [FLN_PAGE_ABSENT] = true, [FLN_PAGE_CLAIMED] = true },
	};

	(void)state;
	for (int from = 0; from < FLN_PAGE_NR_STATES; from++) {
		bool any = false;

		for (int to = 0; to < FLN_PAGE_NR_STATES; to++) {
			assert_int_equal(fln_region_may_move((enum fln_region_page)from,
							     (enum fln_region_page)to),
					 may[from][to]);
			any |= may[from][to];
		}
		assert_true(any); /* no state is a trap */
	}
}

static void claims_are_exclusive(void **state)
{
	struct fln_mask a = fln_mask_range(0, 100), b = fln_mask_range(50, 150), won;
	struct fixture f;

	(void)state;
	setup(&f);
	won = fln_region_claim(f.c, &a);
	assert_int_equal(fln_mask_count(&won), 100);
	won = fln_region_claim(f.c, &b); /* I3 */
	assert_int_equal(fln_mask_count(&won), 50);
	assert_int_equal(fln_mask_next_set(&won, 0), 100);
	assert_int_equal(state_of(f.c, 99), FLN_PAGE_CLAIMED);
	teardown(&f);
}

static void every_move_of_an_owner(void **state)
{
	struct fln_mask all = fln_mask_range(0, 30), won, present = fln_mask_range(0, 10),
			poisoned = fln_mask_range(10, 20), absent = fln_mask_range(20, 30);
	struct fixture f;

	(void)state;
	setup(&f);
	won = fln_region_claim(f.c, &all);
	assert_int_equal(fln_mask_count(&won), 30);
	fln_region_settle(f.c, &present, FLN_PAGE_PRESENT);
	fln_region_settle(f.c, &poisoned, FLN_PAGE_POISONED);
	fln_region_settle(f.c, &absent, FLN_PAGE_ABSENT);
	assert_int_equal(state_of(f.c, 5), FLN_PAGE_PRESENT);
	assert_int_equal(state_of(f.c, 15), FLN_PAGE_POISONED);
	assert_int_equal(state_of(f.c, 25), FLN_PAGE_ABSENT);

	/* Windows leave out what is mapped or poisoned. */
	won = fln_region_claim(f.c, &all);
	assert_int_equal(fln_mask_count(&won), 10);
	assert_int_equal(fln_mask_next_set(&won, 0), 20);
	assert_int_equal(state_of(f.c, 5), FLN_PAGE_PRESENT);
	assert_int_equal(state_of(f.c, 15), FLN_PAGE_POISONED);

	/* Forgetting spares what somebody has claimed. */
	fln_region_forget(f.c, &all);
	assert_int_equal(state_of(f.c, 5), FLN_PAGE_ABSENT);
	assert_int_equal(state_of(f.c, 15), FLN_PAGE_ABSENT);
	assert_int_equal(state_of(f.c, 25), FLN_PAGE_CLAIMED);
	fln_region_settle(f.c, &won, FLN_PAGE_PRESENT);
	assert_int_equal(state_of(f.c, 25), FLN_PAGE_PRESENT);
	teardown(&f);
}

static void a_whole_block_gives_its_chunk_back(void **state)
{
	struct fln_mask all = fln_mask_range(0, 512), most = fln_mask_range(0, 511), won;
	struct fln_mask last = fln_mask_range(511, 512);
	struct fixture f;

	(void)state;
	setup(&f);
	won = fln_region_claim(f.c, &most);
	fln_region_settle(f.c, &won, FLN_PAGE_PRESENT);
	assert_false(fln_region_collapse(&f.map, 0, f.c));
	won = fln_region_claim(f.c, &last);
	assert_false(fln_region_collapse(&f.map, 0, f.c));
	fln_region_settle(f.c, &won, FLN_PAGE_PRESENT);
	assert_true(fln_region_collapse(&f.map, 0, f.c));
	assert_int_equal(fln_blockmap_uniform(&f.map, 0), 1 << FLN_PLANE_PRESENT);
	/* Whoever still holds the chunk gets nothing out of it. */
	won = fln_region_claim(f.c, &all);
	assert_true(fln_mask_empty(&won));
	fln_region_forget(f.c, &all);
	teardown(&f);
}

static void a_claim_keeps_the_chunk(void **state)
{
	struct fln_mask all = fln_mask_range(0, 512), one = fln_mask_range(7, 8);
	struct fixture f;

	(void)state;
	setup(&f);
	all = fln_region_claim(f.c, &all);
	fln_region_settle(f.c, &all, FLN_PAGE_PRESENT);
	(void)fln_chunk_set(f.c, FLN_PLANE_CLAIMED, &one); /* somebody is about to forget it */
	assert_false(fln_region_collapse(&f.map, 0, f.c));
	assert_int_equal(fln_blockmap_uniform(&f.map, 0), -1);
	fln_chunk_clear(f.c, FLN_PLANE_CLAIMED, &one);
	assert_true(fln_region_collapse(&f.map, 0, f.c));
	teardown(&f);
}

static void lead_and_tail_need_not_be_present(void **state)
{
	struct fln_mask some = fln_mask_range(100, 200), won;
	struct fln_blockmap map;
	struct fln_chunk *c;

	(void)state;
	assert_int_equal(fln_blockmap_init(&map, 100, 100, 2, 0), 0);
	fln_rcu_read_lock();
	c = fln_blockmap_chunk(&map, 0);
	won = fln_region_claim(c, &some);
	fln_region_settle(c, &won, FLN_PAGE_PRESENT);
	assert_true(fln_region_collapse(&map, 0, c));
	fln_rcu_read_unlock();
	fln_blockmap_deinit(&map);
}

/* Of a part of a block all is given up, without a chunk, and then mapped again. */
static void what_is_given_up_and_mapped_is_uniform(void **state)
{
	const uint32_t present = 1u << FLN_PLANE_PRESENT, discarded = 1u << FLN_PLANE_DISCARDED;
	struct fln_mask some = fln_mask_range(100, 200), won;
	struct fln_blockmap map;
	struct fln_chunk *c;

	(void)state;
	assert_int_equal(fln_blockmap_init(&map, 100, 100, 2, 0), 0);
	fln_rcu_read_lock();
	assert_true(fln_blockmap_swap_uniform(&map, 0, 0, discarded));
	c = fln_blockmap_chunk(&map, 0);
	assert_non_null(c);
	won = fln_region_claim(c, &some);
	fln_region_settle(c, &won, FLN_PAGE_PRESENT);
	assert_true(fln_region_collapse(&map, 0, c));
	assert_int_equal(fln_blockmap_uniform(&map, 0), present | discarded);
	fln_rcu_read_unlock();
	fln_blockmap_deinit(&map);
}

#ifdef FLN_DEBUG
static void settle_to(struct fixture *f, enum fln_region_page to)
{
	struct fln_mask one = fln_mask_range(3, 4);

	fln_region_settle(f->c, &one, to);
}

static void settle_present(void *arg)
{
	settle_to(arg, FLN_PAGE_PRESENT);
}

static void settle_poisoned(void *arg)
{
	settle_to(arg, FLN_PAGE_POISONED);
}

static void settle_claimed(void *arg)
{
	settle_to(arg, FLN_PAGE_CLAIMED);
}

static void claim_and_settle_claimed(void *arg)
{
	struct fixture *f = arg;
	struct fln_mask one = fln_mask_range(3, 4);

	(void)fln_region_claim(f->c, &one);
	settle_to(f, FLN_PAGE_CLAIMED);
}

static void ask_beyond_the_table(void *arg)
{
	(void)arg;
	(void)fln_region_may_move(FLN_PAGE_NR_STATES, FLN_PAGE_ABSENT);
}
#endif

static void moves_that_do_not_exist_abort(void **state)
{
	(void)state;
#ifdef FLN_DEBUG
	struct fixture f;

	setup(&f);
	assert_true(aborts(settle_present, &f)); /* not claimed */
	assert_true(aborts(settle_poisoned, &f));
	assert_true(aborts(settle_claimed, &f));
	assert_true(aborts(claim_and_settle_claimed, &f));
	assert_true(aborts(ask_beyond_the_table, &f));
	teardown(&f);
#else
	skip();
#endif
}

/* All of a block that is one huge page, or nothing of it. */
static void a_huge_page_is_claimed_whole(void **state)
{
	struct fln_mask none = { { 0 } }, last = fln_mask_range(511, 512), won;
	struct fixture f;

	(void)state;
	setup(&f);
	won = fln_region_claim_whole(f.c);
	assert_int_equal(fln_mask_count(&won), FLN_BLOCK_PAGES);
	none = fln_region_claim_whole(f.c);
	assert_true(fln_mask_empty(&none));
	assert_int_equal(state_of(f.c, 300), FLN_PAGE_CLAIMED);
	fln_region_settle(f.c, &won, FLN_PAGE_ABSENT);
	/* Somebody passes through the last page: nothing is kept of the others. */
	last = fln_region_claim(f.c, &last);
	none = fln_region_claim_whole(f.c);
	assert_true(fln_mask_empty(&none));
	assert_int_equal(state_of(f.c, 0), FLN_PAGE_ABSENT);
	assert_int_equal(state_of(f.c, 510), FLN_PAGE_ABSENT);
	assert_int_equal(state_of(f.c, 511), FLN_PAGE_CLAIMED);
	fln_region_settle(f.c, &last, FLN_PAGE_ABSENT);
	won = fln_region_claim_whole(f.c);
	assert_int_equal(fln_mask_count(&won), FLN_BLOCK_PAGES);
	fln_region_settle(f.c, &won, FLN_PAGE_PRESENT);
	none = fln_region_claim_whole(f.c);
	assert_true(fln_mask_empty(&none));
	teardown(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_huge_page_is_claimed_whole),
		cmocka_unit_test(the_table),
		cmocka_unit_test(claims_are_exclusive),
		cmocka_unit_test(every_move_of_an_owner),
		cmocka_unit_test(a_whole_block_gives_its_chunk_back),
		cmocka_unit_test(a_claim_keeps_the_chunk),
		cmocka_unit_test(lead_and_tail_need_not_be_present),
		cmocka_unit_test(what_is_given_up_and_mapped_is_uniform),
		cmocka_unit_test(moves_that_do_not_exist_abort),
	};
	bool entered = fln_rcu_enter();
	int rc = cmocka_run_group_tests(tests, NULL, NULL);

	fln_rcu_leave(entered);
	return rc;
}
