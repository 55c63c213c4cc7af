/* SPDX-License-Identifier: MIT */
/* The registry of in-context regions: found by address, refused where two overlap, gone at once. */
#include "engine/context/registry.h"

#include "base/page.h"
#include "base/rcu.h"
#include "engine/state/guest.h"

#include "tests/support/cm.h"

#include <errno.h>
#include <faultlane/base.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define NR_REGIONS 16u
#define ADDR(i) ((uint64_t)((i) + 1) << 30)

static struct fln_region regions[NR_REGIONS];
static _Atomic bool done, wrong;

static int setup(void **state)
{
	static bool entered;

	entered = fln_rcu_enter();
	*state = &entered;
	for (uint32_t i = 0; i < NR_REGIONS; i++) {
		regions[i].addr = ADDR(i);
		/* Every other one ends where the next one begins. */
		regions[i].len_bytes = i % 2 ? UINT64_C(1) << 30 : 3 * FLN_PAGE_BYTES;
	}
	return 0;
}

static int teardown(void **state)
{
	for (uint32_t i = 0; i < NR_REGIONS; i++)
		fln_context_leave_region(&regions[i]);
	fln_rcu_leave(*(bool *)*state);
	return 0;
}

static struct fln_region *find(uint64_t addr)
{
	struct fln_region *r;

	fln_rcu_read_lock();
	r = fln_context_find(addr);
	fln_rcu_read_unlock();
	return r;
}

static void enter_all(void)
{
	for (uint32_t i = 0; i < NR_REGIONS; i++)
		assert_int_equal(fln_context_enter_region(&regions[i * 5 % NR_REGIONS]), 0);
}

static void found_by_any_of_its_addresses(void **state)
{
	(void)state;
	assert_null(find(ADDR(0)));
	enter_all();
	for (uint32_t i = 0; i < NR_REGIONS; i++) {
		struct fln_region *r = &regions[i];
		uint64_t end = r->addr + r->len_bytes;

		assert_ptr_equal(find(r->addr), r);
		assert_ptr_equal(find(end - 1), r);
		assert_ptr_equal(find(end), i % 2 && i + 1 < NR_REGIONS ? r + 1 : NULL);
	}
	assert_null(find(ADDR(0) - 1));
	assert_null(find(UINT64_MAX));
}

static void what_has_left_is_not_found(void **state)
{
	uint64_t nr_left = fln_context_nr_left();

	(void)state;
	enter_all();
	fln_context_leave_region(&regions[4]);
	assert_int_equal(fln_context_nr_left(), nr_left + 1);
	assert_null(find(ADDR(4)));
	assert_ptr_equal(find(ADDR(3)), &regions[3]);
	assert_ptr_equal(find(ADDR(5)), &regions[5]);
	fln_context_leave_region(&regions[4]); /* it is not there: nothing is counted */
	assert_int_equal(fln_context_nr_left(), nr_left + 1);
	assert_int_equal(fln_context_enter_region(&regions[4]), 0);
	assert_ptr_equal(find(ADDR(4)), &regions[4]);
}

/* Refused with the addresses of the region that is there, and that one is still found. */
static void two_do_not_overlap(void **state)
{
	struct fln_region other = { .addr = ADDR(2) + 2 * FLN_PAGE_BYTES,
				    .len_bytes = 2 * FLN_PAGE_BYTES };
	char there[40];

	(void)state;
	enter_all();
	(void)snprintf(there, sizeof(there), "0x%llx", (unsigned long long)ADDR(2));
	assert_int_equal(fln_context_enter_region(&other), -EEXIST);
	assert_non_null(strstr(fln_last_error(), there));
	assert_ptr_equal(find(other.addr), &regions[2]);
	assert_null(find(other.addr + FLN_PAGE_BYTES));
	other.addr += FLN_PAGE_BYTES; /* right behind it */
	assert_int_equal(fln_context_enter_region(&other), 0);
	assert_ptr_equal(find(other.addr), &other);
	fln_context_leave_region(&other);
	/* The place of one that has left is free. */
	other.addr -= FLN_PAGE_BYTES;
	fln_context_leave_region(&regions[2]);
	assert_int_equal(fln_context_enter_region(&other), 0);
	fln_context_leave_region(&other);
}

static void *look_on(void *arg)
{
	bool entered = fln_rcu_enter();

	(void)arg;
	while (!atomic_load(&done)) {
		struct fln_region *r = find(ADDR(7) + FLN_PAGE_BYTES), *other = find(ADDR(8));

		if (r != &regions[7] || (other && other != &regions[8]))
			atomic_store(&wrong, true);
	}
	fln_rcu_leave(entered);
	return NULL;
}

/* Arrays are replaced, and given back, under readers. */
static void others_come_and_go_meanwhile(void **state)
{
	pthread_t thread;

	(void)state;
	assert_int_equal(fln_context_enter_region(&regions[7]), 0);
	assert_int_equal(pthread_create(&thread, NULL, look_on, NULL), 0);
	for (uint32_t i = 0; i < 100; i++) {
		assert_int_equal(fln_context_enter_region(&regions[8]), 0);
		fln_context_leave_region(&regions[8]);
	}
	atomic_store(&done, true);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_false(wrong);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(found_by_any_of_its_addresses),
		TEST(what_has_left_is_not_found),
		TEST(two_do_not_overlap),
		TEST(others_come_and_go_meanwhile),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
