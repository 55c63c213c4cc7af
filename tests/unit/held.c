/* SPDX-License-Identifier: MIT */
/* The table of held faults: one entry a page, a share for each guest, and what is let go of. */
#include "engine/held.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/page.h"
#include "base/rcu.h"
#include "engine/state/guest.h"
#include "engine/state/worker.h"

#include "tests/support/cm.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#define HELD_MAX 12u
#define ADDR(page) (UINT64_C(0x700000000000) + fln_pages_to_bytes(page))
#define COUNT(s, what) atomic_load(&f.shards[s].count.what)

struct fixture {
	struct fln_worker worker;
	struct fln_held held[HELD_MAX];
	uint32_t index[2 * HELD_MAX];
	struct fln_guest guests[2];
	struct fln_shard shards[2]; /* one of each guest */
	bool entered;
};

static struct fixture f;

static int setup(void **state)
{
	(void)state;
	memset(&f, 0, sizeof(f));
	f.entered = fln_rcu_enter();
	f.worker.opts.held_max = HELD_MAX;
	f.worker.opts.index = 2;
	f.worker.held = f.held;
	f.worker.held_index = f.index;
	f.worker.next_due_ns = UINT64_MAX;
	f.worker.nr_guests = 2;
	for (uint32_t i = 0; i < 2; i++)
		f.shards[i].guest = &f.guests[i];
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < 2; i++)
		fln_drop_held(&f.worker, &f.shards[i]);
	assert_int_equal(f.worker.nr_held, 0);
	for (uint32_t i = 0; i < 2; i++) {
		assert_int_equal(f.shards[i].nr_held, 0);
		assert_int_equal(f.guests[i].at[2].nr_held, 0);
	}
	fln_rcu_leave(f.entered);
	return 0;
}

static void hold(uint32_t shard, uint64_t page, uint32_t nr, enum fln_held_reason reason)
{
	struct fln_fault fault = { .addr = ADDR(page), .t0_ns = 1000 + page, .nr = nr };

	fln_hold(&f.worker, &f.shards[shard], &fault, reason);
}

static void one_entry_for_all_faults_on_a_page(void **state)
{
	(void)state;
	hold(0, 5, 1, FLN_HELD_FILL);
	hold(0, 5, 2, FLN_HELD_FILL);
	hold(0, 6, 1, FLN_HELD_AGAIN);
	hold(1, 5, 1, FLN_HELD_FILL); /* another guest's page at that address */
	assert_int_equal(f.worker.nr_held, 3);
	assert_int_equal(f.held[0].fault.nr, 3);
	assert_int_equal(f.held[0].fault.t0_ns, 1005);
	assert_int_equal(f.shards[0].nr_held, 4);
	assert_int_equal(f.shards[1].nr_held, 1);
	assert_int_equal(f.worker.nr_again, 1);
	assert_true(f.held[0].fault.held); /* its contents had to be fetched */
	assert_false(f.held[1].fault.held);
}

/* Two guests: none takes more than is left for the other. */
static void a_guest_has_its_share(void **state)
{
	uint32_t nr;

	(void)state;
	for (nr = 0; fln_may_hold(&f.worker, &f.shards[0]); nr++)
		hold(0, nr, 1, FLN_HELD_FILL);
	assert_int_equal(nr, HELD_MAX / 2);
	hold(0, nr, 1, FLN_HELD_FILL);
	assert_int_equal(f.worker.nr_held, nr);
	assert_int_equal(COUNT(0, held_full), 1);
	assert_ptr_equal(f.worker.overflowed, &f.shards[0]);
	assert_int_equal(f.shards[0].overflowed_addr, ADDR(nr));
	assert_true(fln_may_hold(&f.worker, &f.shards[1]));
	for (nr = 0; fln_may_hold(&f.worker, &f.shards[1]); nr++)
		hold(1, nr, 1, FLN_HELD_FILL);
	assert_int_equal(nr, HELD_MAX / 4);
}

/* It had the worker for itself: when the table is made anew, what it held stays. */
static void what_was_held_keeps_its_place(void **state)
{
	(void)state;
	f.worker.nr_guests = 1;
	for (uint32_t i = 0; i < HELD_MAX - 2; i++)
		hold(0, i, 1, FLN_HELD_FILL);
	f.worker.nr_guests = 2;
	fln_drop_unmapped(&f.worker, &f.shards[0], ADDR(0), ADDR(1));
	assert_int_equal(f.worker.nr_held, HELD_MAX - 3);
	assert_int_equal(COUNT(0, held_full), 0);
	hold(0, HELD_MAX, 1, FLN_HELD_FILL); /* but nothing new comes */
	assert_int_equal(COUNT(0, held_full), 1);
}

static void a_guest_alone_has_all(void **state)
{
	(void)state;
	f.worker.nr_guests = 1;
	for (uint32_t i = 0; i < HELD_MAX; i++) {
		assert_true(fln_may_hold(&f.worker, &f.shards[0]));
		hold(0, i, 1, FLN_HELD_FILL);
	}
	assert_false(fln_may_hold(&f.worker, &f.shards[0]));
	hold(0, 3, 1, FLN_HELD_FILL); /* the same page needs no room */
	assert_int_equal(COUNT(0, held_full), 0);
	hold(0, HELD_MAX, 2, FLN_HELD_FILL);
	assert_int_equal(COUNT(0, held_full), 2);
	assert_int_equal(COUNT(0, failed), 2);
	assert_true(f.shards[0].overflowed);
	/* Half of the table must be free before they are told to come again. */
	fln_wake_overflowed(&f.worker);
	assert_true(f.shards[0].overflowed);
	fln_drop_unmapped(&f.worker, &f.shards[0], ADDR(0), ADDR(HELD_MAX / 2 - 1));
	fln_wake_overflowed(&f.worker);
	assert_true(f.shards[0].overflowed);
	fln_drop_unmapped(&f.worker, &f.shards[0], ADDR(0), ADDR(HELD_MAX / 2));
	fln_wake_overflowed(&f.worker);
	assert_false(f.shards[0].overflowed);
	assert_null(f.worker.overflowed);
}

/* When the worker must look again, and that a table made anew still knows. */
static void pauses_are_due_in_order(void **state)
{
	struct fln_fault fault = { .addr = ADDR(1), .nr = 1, .not_before_ns = 900 };

	(void)state;
	fln_hold(&f.worker, &f.shards[0], &fault, FLN_HELD_PAUSE);
	fault.addr = ADDR(2);
	fault.not_before_ns = 700;
	fln_hold(&f.worker, &f.shards[1], &fault, FLN_HELD_MEMORY);
	fault.addr = ADDR(3);
	fault.not_before_ns = 100;
	fln_hold(&f.worker, &f.shards[0], &fault, FLN_HELD_FILL); /* told of by its fill */
	assert_int_equal(f.worker.next_due_ns, 700);
	fln_drop_held(&f.worker, &f.shards[1]);
	assert_int_equal(f.worker.next_due_ns, 900);
}

/* Of one shard; the other's stay, and are found by their pages again. */
static void what_is_let_go_of(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < 4; i++) {
		hold(0, i, 2, FLN_HELD_FILL);
		hold(1, i, 1, FLN_HELD_FILL);
	}
	fln_drop_unmapped(&f.worker, &f.shards[0], ADDR(1), ADDR(3));
	assert_int_equal(f.worker.nr_held, 6);
	assert_int_equal(f.shards[0].nr_held, 4);
	assert_int_equal(COUNT(0, failed), 4);
	assert_int_equal(COUNT(0, invalid), 4);
	fln_drop_held(&f.worker, &f.shards[0]);
	assert_int_equal(f.worker.nr_held, 4);
	assert_int_equal(COUNT(0, poisoned), 4);
	for (uint32_t i = 0; i < 4; i++)
		hold(1, i, 1, FLN_HELD_FILL);
	assert_int_equal(f.worker.nr_held, 4);
	assert_int_equal(f.shards[1].nr_held, 8);
	assert_int_equal(f.guests[0].at[2].nr_held, 0);
	assert_int_equal(f.guests[1].at[2].nr_held, 4);
}

/* How a fault ends, and of which class it was (I4). */
static void how_faults_end(void **state)
{
	struct fln_fault fault = { .addr = ADDR(0), .t0_ns = 100, .nr = 3 };

	(void)state;
	fln_end_fault(&f.shards[0], &fault, FLN_ENDED_RESUMED, false, 150);
	assert_int_equal(COUNT(0, minor), 3);
	assert_int_equal(COUNT(0, resumed), 3);
	fault.held = true;
	fln_end_fault(&f.shards[0], &fault, FLN_ENDED_POISONED, false, 150);
	assert_int_equal(COUNT(0, major), 3);
	assert_int_equal(COUNT(0, poisoned), 3);
	fln_end_fault(&f.shards[0], &fault, FLN_ENDED_RESUMED, true, 150);
	assert_int_equal(COUNT(0, zero), 3);
	assert_int_equal(COUNT(0, resumed), 6);
	fln_end_fault(&f.shards[0], &fault, FLN_ENDED_FAILED, true, 150);
	assert_int_equal(COUNT(0, invalid), 3);
	assert_int_equal(COUNT(0, failed), 3);
	assert_int_equal(f.shards[0].count.service.count, 12);
	assert_int_equal(f.shards[0].count.service.max_ns, 50);
}

/* The time in which the process was stopped is no fault's. */
static void stopped_time_does_not_count(void **state)
{
	struct fln_fault fault = { .addr = ADDR(0), .t0_ns = 100, .nr = 1, .again_since_ns = 120 };

	(void)state;
	fln_hold(&f.worker, &f.shards[0], &fault, FLN_HELD_AGAIN);
	fln_held_credit(&f.worker, 1000);
	fln_held_credit(&f.worker, 10);
	assert_int_equal(f.held[0].fault.since_ns, 1110);
	assert_int_equal(f.held[0].fault.again_since_ns, 1130);
	assert_int_equal(f.held[0].fault.stopped_ns, 1010);
	assert_int_equal(f.held[0].fault.t0_ns, 100);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(one_entry_for_all_faults_on_a_page),
		TEST(a_guest_has_its_share),
		TEST(what_was_held_keeps_its_place),
		TEST(a_guest_alone_has_all),
		TEST(pauses_are_due_in_order),
		TEST(what_is_let_go_of),
		TEST(how_faults_end),
		TEST(stopped_time_does_not_count),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
