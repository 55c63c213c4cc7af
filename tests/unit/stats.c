/* SPDX-License-Identifier: MIT */
/* Statistics of guests and shards, built by hand. */
#include <faultlane/guest.h>
#include <faultlane/stats.h>
#include <stdatomic.h>

#include "base/alloc.h"
#include "base/lock.h"
#include "engine/state/engine.h"
#include "engine/state/guest.h"
#include "engine/uffd.h"
#include "tests/support/cm.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

struct fixture {
	struct fln_engine engine;
	struct fln_guest guest;
	struct fln_shard shards[2];
};

static struct fixture f;

static int setup(void **state)
{
	(void)state;
	memset(&f, 0, sizeof(f));
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
	fln_lock_deinit(&f.guest.lock);
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

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(sums_and_what_is_in_flight),
		TEST(structs_of_other_versions),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
