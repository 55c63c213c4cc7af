/* SPDX-License-Identifier: MIT */
/* The directory of regions: every address has its region or none, and what it takes to change it. */
#include "engine/directory.h"

#include "base/alloc.h"
#include "base/lock.h"
#include "base/page.h"
#include "base/rcu.h"
#include "engine/state/engine.h"
#include "engine/state/guest.h"

#include "tests/support/blocks.h"
#include "tests/support/cm.h"

#include <errno.h>
#include <faultlane/base.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#define NR_REGIONS 20u

struct fixture {
	struct fln_engine engine;
	struct fln_guest guest;
	struct fln_region regions[NR_REGIONS];
	struct blocks blocks;
	bool entered;
};

static struct fixture f;

static int setup(void **state)
{
	struct fln_allocator a = blocks_allocator(&f.blocks);

	(void)state;
	memset(&f, 0, sizeof(f));
	f.blocks.nr_left = UINT32_MAX;
	f.entered = fln_rcu_enter();
	assert_int_equal(fln_alloc_init(&f.engine.alloc, &a), 0);
	f.guest.engine = &f.engine;
	f.guest.turn.taken = true; /* by the test */
	fln_lock_init(&f.guest.lock, FLN_RANK_GUEST);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	fln_directory_destroy(&f.guest);
	assert_int_equal(f.blocks.nr, 0);
	fln_lock_deinit(&f.guest.lock);
	fln_rcu_leave(f.entered);
	return 0;
}

static int publish(const struct fln_region *without)
{
	int rc;

	fln_lock(&f.guest.lock);
	rc = fln_directory_publish(&f.guest, without);
	fln_unlock(&f.guest.lock);
	return rc;
}

static struct fln_region *find(uint64_t addr)
{
	struct fln_region *r;

	fln_rcu_read_lock();
	r = fln_directory_find(&f.guest, addr);
	fln_rcu_read_unlock();
	return r;
}

static struct fln_region *next(uint64_t addr)
{
	struct fln_region *r;

	fln_rcu_read_lock();
	r = fln_directory_next(&f.guest, addr);
	fln_rcu_read_unlock();
	return r;
}

/* The guest's list: in an order of its own, some regions touching, others apart. */
static void add_regions(uint32_t nr)
{
	f.guest.regions = NULL;
	for (uint32_t i = 0; i < nr; i++) {
		struct fln_region *r = &f.regions[i * 7 % NR_REGIONS];
		uint64_t at = (uint64_t)(r - f.regions);

		r->addr = (at + 1) << 30;
		r->len_bytes = at % 2 ? UINT64_C(1) << 30 : FLN_PAGE_BYTES;
		r->next = f.guest.regions;
		f.guest.regions = r;
	}
}

static void every_address_has_its_region_or_none(void **state)
{
	(void)state;
	assert_null(find(0));
	assert_null(find(UINT64_MAX));
	add_regions(NR_REGIONS);
	assert_int_equal(publish(NULL), 0);
	for (uint32_t i = 0; i < NR_REGIONS; i++) {
		struct fln_region *r = &f.regions[i];

		assert_ptr_equal(find(r->addr), r);
		assert_ptr_equal(find(r->addr + r->len_bytes - 1), r);
		assert_ptr_equal(find(r->addr + r->len_bytes),
				 i % 2 && i + 1 < NR_REGIONS ? r + 1 : NULL);
	}
	assert_null(find(0));
	assert_null(find(f.regions[0].addr - 1));
	assert_null(find(UINT64_MAX));
}

static void the_next_region_is_the_first_that_ends_above(void **state)
{
	(void)state;
	assert_null(next(0));
	add_regions(NR_REGIONS);
	assert_int_equal(publish(NULL), 0);
	assert_ptr_equal(next(0), &f.regions[0]);
	for (uint32_t i = 0; i < NR_REGIONS; i++) {
		struct fln_region *r = &f.regions[i];

		assert_ptr_equal(next(r->addr - 1), i % 2 || i == 0 ? r : r - 1);
		assert_ptr_equal(next(r->addr), r);
		assert_ptr_equal(next(r->addr + r->len_bytes - 1), r);
		assert_ptr_equal(next(r->addr + r->len_bytes), i + 1 < NR_REGIONS ? r + 1 : NULL);
	}
	assert_null(next(UINT64_MAX));
}

static void a_region_that_is_left_out(void **state)
{
	(void)state;
	add_regions(NR_REGIONS);
	assert_int_equal(publish(NULL), 0);
	assert_int_equal(publish(&f.regions[5]), 0);
	assert_null(find(f.regions[5].addr));
	assert_ptr_equal(find(f.regions[4].addr), &f.regions[4]);
	assert_ptr_equal(find(f.regions[6].addr), &f.regions[6]);
	fln_directory_destroy(&f.guest);
	assert_null(find(f.regions[4].addr));
}

/* A reader may still have the old array when the new one is out. */
static void the_old_array_stays_until_it_is_reaped(void **state)
{
	const struct fln_directory *old;

	(void)state;
	add_regions(NR_REGIONS);
	assert_int_equal(publish(NULL), 0);
	old = atomic_load(&f.guest.directory);
	assert_int_equal(publish(&f.regions[5]), 0);
	assert_int_equal(f.blocks.nr, 2);
	assert_int_equal(old->nr, NR_REGIONS);
	assert_ptr_equal(old->regions[5], &f.regions[5]);
	/* Then it is the spare, large enough for what comes next. */
	fln_directory_reap(&f.guest);
	assert_ptr_equal(f.guest.spare, old);
	assert_int_equal(publish(NULL), 0);
	assert_ptr_equal(atomic_load(&f.guest.directory), old);
	fln_directory_reap(&f.guest);
	assert_int_equal(f.blocks.nr, 2);
}

/* I6: a region can go when there is no memory; one that comes is refused, and nothing changes. */
static void without_memory(void **state)
{
	(void)state;
	add_regions(4);
	assert_int_equal(publish(NULL), 0);
	fln_directory_reap(&f.guest);
	assert_int_equal(fln_directory_prepare(&f.guest), 0);
	f.blocks.nr_left = 0;
	assert_int_equal(publish(&f.regions[7]), 0);
	fln_directory_reap(&f.guest);
	assert_null(find(f.regions[7].addr));
	assert_ptr_equal(find(f.regions[14].addr), &f.regions[14]);
	assert_int_equal(publish(&f.regions[14]), 0);
	fln_directory_reap(&f.guest);
	assert_ptr_equal(find(f.regions[7].addr), &f.regions[7]);
	add_regions(NR_REGIONS); /* more than there is room for */
	assert_int_equal(fln_directory_prepare(&f.guest), -ENOMEM);
	assert_int_equal(publish(NULL), -ENOMEM);
	assert_ptr_equal(find(f.regions[7].addr), &f.regions[7]);
	assert_null(find(f.regions[2].addr));
	f.blocks.nr_left = UINT32_MAX;
	assert_int_equal(fln_directory_prepare(&f.guest), 0);
	f.blocks.nr_left = 0;
	assert_int_equal(publish(NULL), 0);
	assert_ptr_equal(find(f.regions[2].addr), &f.regions[2]);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(every_address_has_its_region_or_none),
		TEST(the_next_region_is_the_first_that_ends_above),
		TEST(a_region_that_is_left_out),
		TEST(the_old_array_stays_until_it_is_reaped),
		TEST(without_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
