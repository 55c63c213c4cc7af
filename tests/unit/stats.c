/* SPDX-License-Identifier: MIT */
/* Statistics of guests and shards, and the directory of regions, built by hand. */
#include <faultlane/guest.h>
#include <faultlane/stats.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "base/alloc.h"
#include "base/lock.h"
#include "base/page.h"
#include "base/rcu.h"
#include "engine/directory.h"
#include "engine/state/engine.h"
#include "engine/state/guest.h"
#include "engine/uffd.h"
#include "tests/support/cm.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#define NR_REGIONS 20u

struct fixture {
	struct fln_engine engine;
	struct fln_guest guest;
	struct fln_shard shards[2];
	struct fln_region regions[NR_REGIONS];
	bool entered;
};

static struct fixture f;

static int setup(void **state)
{
	(void)state;
	memset(&f, 0, sizeof(f));
	f.entered = fln_rcu_enter();
	assert_int_equal(fln_alloc_init(&f.engine.alloc, NULL), 0);
	f.guest.engine = &f.engine;
	f.guest.shards = f.shards;
	f.guest.nr_shards = 2;
	(void)snprintf(f.guest.name, sizeof(f.guest.name), "by-hand");
	fln_lock_init(&f.guest.lock, FLN_RANK_GUEST);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	fln_directory_destroy(&f.guest);
	fln_lock_deinit(&f.guest.lock);
	fln_rcu_leave(f.entered);
	return 0;
}

static void sums_and_what_is_in_flight(void **state)
{
	struct fln_stats stats = FLN_STATS_INIT;

	(void)state;
	for (uint32_t i = 0; i < 2; i++) {
		struct fln_shard_counters *c = &f.shards[i].count;

		fln_count(&c->faults, 100);
		fln_count(&c->resumed, 60);
		fln_count(&c->poisoned, 5);
		fln_count(&c->failed, 3 + i);
		fln_count(&c->refaults, i);
		atomic_store(&f.shards[i].uffd.nr_calls, 7);
		atomic_store(&f.shards[i].uffd.nr_wakes, 2);
		fln_histogram_record(&c->service, 1000 * (i + 1));
	}
	assert_int_equal(fln_guest_stats(&f.guest, &stats), 0);
	assert_int_equal(stats.faults, 200);
	assert_int_equal(stats.in_flight, 32 + 31);
	assert_int_equal(stats.faults,
			 stats.resumed + stats.poisoned + stats.failed + stats.in_flight);
	assert_int_equal(stats.refaults, 1);
	assert_int_equal(stats.installs, 14);
	assert_int_equal(stats.wakes, 4);
	assert_int_equal(stats.service.count, 2);
	assert_int_equal(stats.service.max_ns, 2000);

	assert_int_equal(fln_shard_stats(&f.guest, 1, &stats), 0);
	assert_int_equal(stats.faults, 100);
	assert_int_equal(stats.in_flight, 31);
	assert_int_equal(fln_shard_stats(&f.guest, 2, &stats), -EINVAL);
	assert_int_equal(fln_guest_nr_shards(&f.guest), 2);
}

static void structs_of_other_versions(void **state)
{
	struct {
		struct fln_stats stats;
		uint64_t newer[2];
	} out;

	(void)state;
	fln_count(&f.shards[0].count.faults, 9);
	fln_count(&f.shards[0].count.minor, 4);

	/* Older: what it does not know stays untouched. */
	memset(&out, 0xee, sizeof(out));
	out.stats.size = offsetof(struct fln_stats, minor);
	assert_int_equal(fln_guest_stats(&f.guest, &out.stats), 0);
	assert_int_equal(out.stats.size, offsetof(struct fln_stats, minor));
	assert_int_equal(out.stats.faults, 9);
	assert_int_equal(out.stats.minor, UINT64_C(0xeeeeeeeeeeeeeeee));

	/* Newer: what we do not know is zero. */
	memset(&out, 0xee, sizeof(out));
	out.stats.size = sizeof(out);
	assert_int_equal(fln_guest_stats(&f.guest, &out.stats), 0);
	assert_int_equal(out.stats.minor, 4);
	assert_int_equal(out.newer[0], 0);
	assert_int_equal(out.newer[1], 0);
	assert_int_equal(out.stats.size, sizeof(out));

	out.stats.size = 0;
	assert_int_equal(fln_guest_stats(&f.guest, &out.stats), -EINVAL);
	out.stats.size = 1u << 20;
	assert_int_equal(fln_guest_stats(&f.guest, &out.stats), -EINVAL);
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

/* Regions in an order of their own, some of them touching, others apart. */
static void add_regions(void)
{
	for (uint32_t i = 0; i < NR_REGIONS; i++) {
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
	add_regions();
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

static void a_region_that_is_left_out(void **state)
{
	(void)state;
	add_regions();
	assert_int_equal(publish(NULL), 0);
	assert_int_equal(publish(&f.regions[5]), 0);
	assert_null(find(f.regions[5].addr));
	assert_ptr_equal(find(f.regions[4].addr), &f.regions[4]);
	assert_ptr_equal(find(f.regions[6].addr), &f.regions[6]);
	fln_directory_destroy(&f.guest);
	assert_null(find(f.regions[4].addr));
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(sums_and_what_is_in_flight),
		TEST(structs_of_other_versions),
		TEST(every_address_has_its_region_or_none),
		TEST(a_region_that_is_left_out),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
