/* SPDX-License-Identifier: MIT */
/* Release where the kernel refuses half way, mappings stay, poison goes late, shards are many. */
#include "engine/release.h"

#include "engine/life/deny.h"
#include "engine/release_maps.h"
#include "engine/state/worker.h"
#include "engine/strays.h"
#include "tests/support/release_rig.h"

#include <errno.h>
#include <stdlib.h>

/* The run is of two mappings, and the second one cannot be cut: the blocks of the first have left. */
static void the_kernel_refuses_half_way(void **state)
{
	struct rig *r = release_rig((struct rig_opts){ .nr_pages = 7 * 512, .pushed = true });
	uint32_t t;

	(void)state;
	rig_put(r, 512, 5 * 512);
	t = rig_touch(r, 5 * 512);
	r->fake.unregister_errno = ENOMEM;
	r->fake.unregister_stop = rig_addr(r, 4 * 512 + 9); /* in the middle of a block */
	rig_release(r);
	for (uint32_t block = 0; block < 7; block++)
		assert_int_equal(is_released(r, block * 512), block >= 1 && block < 4);
	assert_int_equal(COUNT(r, released_bytes), 3 * FLN_BLOCK_BYTES);
	/* Two boundaries, and what the refused one may have cut. */
	assert_int_equal(r->region.nr_release_maps - r->region.nr_failed_maps, 2);
	assert_false(rig_map_says(r, FLN_PLANE_CLAIMED, 4 * 512));
	rig_settle(r);
	rig_assert_read(r, t, rig_due(r, 5 * 512));
	assert_plain(r, 512, rig_due(r, 512));
	r->fake.unregister_errno = 0;
	rig_release(r);
	assert_true(is_released(r, 4 * 512) && is_released(r, 5 * 512));
	assert_int_equal(r->region.nr_release_maps, 2);
	rig_destroy(r);
}

static void touch_now(void *ctx, uint64_t start, uint64_t len_bytes)
{
	struct rig *r = ctx;

	(void)start;
	(void)len_bytes;
	(void)rig_touch(r, 200);
}

/* A thread that faults during a call waits on, and what it waits for may have left by then. */
static void a_refusal_wakes(void **state)
{
	struct rig *r = release_rig((struct rig_opts){ .nr_pages = 1024, .pushed = true });

	(void)state;
	rig_put(r, 0, 1024);
	r->fake.on_unregister = touch_now;
	r->fake.unregister_errno = ENOMEM;
	r->fake.unregister_stop = rig_addr(r, 100);
	rig_release_only(r);
	r->fake.on_unregister = NULL;
	r->fake.unregister_errno = 0;
	assert_false(is_released(r, 0));
	assert_true(fake_count(&r->fake, FAKE_WOKEN) > 0);
	assert_int_equal(fake_count(&r->fake, FAKE_QUEUED), 0);
	assert_int_equal(fake_count(&r->fake, FAKE_WAITING), 0);
	rig_settle(r);
	rig_release(r);
	assert_true(is_released(r, 0));
	rig_destroy(r);
}

/* Private mappings may have pages of their own, and stay apart. */
static void private_mappings_do_not_merge(void **state)
{
	struct rig *r = release_rig((struct rig_opts){ .nr_pages = 5 * 512,
						       .pushed = true,
						       .is_private = true,
						       .discard = FLN_DISCARD_IMAGE });

	(void)state;
	rig_put(r, 2 * 512, 512);
	rig_release(r);
	assert_int_equal(r->region.nr_release_maps, 2);
	rig_put(r, 512, 512);
	rig_release(r);
	assert_int_equal(r->region.nr_release_maps, 3);
	rig_put(r, 0, 512);
	rig_release(r);
	assert_int_equal(r->region.nr_release_maps, 3);
	rig_put(r, 3 * 512, 2 * 512);
	rig_release(r);
	assert_true(fln_region_all_released(&r->region));
	assert_int_equal(r->region.nr_release_maps, 3);
	assert_int_equal(atomic_load(&r->engine.nr_stripes), 3);
	rig_destroy(r);
}

/* A foreign process has one limit, however many regions it has. */
static void foreign_mappings_are_its_guests(void **state)
{
	struct rig *r =
		release_rig((struct rig_opts){ .foreign = true, .window = 512, .nr_pages = 1536 });

	(void)state;
	rig_put(r, 0, 1536);
	(void)rig_touch(r, 512);
	rig_settle(r);
	r->guest.release.nr_maps = 1023; /* of others */
	rig_release(r);
	assert_false(is_released(r, 512));
	assert_true(r->shard.release_left);
	r->guest.release.nr_maps = 1022;
	rig_release(r);
	assert_true(is_released(r, 512));
	assert_int_equal(r->guest.release.nr_maps, 1024);
	rig_destroy(r);
}

/* Poison is lifted later than the discard was noted, and a look has found the block poisoned. */
static void lifting_poison_leads_to_it(void **state)
{
	struct rig *r = release_rig((struct rig_opts){ .nr_pages = 512 });
	uint64_t looks;
	uint32_t t;

	(void)state;
	r->bad[60] = true;
	t = rig_touch(r, 60);
	rig_settle(r);
	rig_assert_killed(r, t);
	rig_put(r, 0, 512);
	fake_discard(&r->fake, rig_addr(r, 60), 1, true);
	rig_serve(r);
	rig_release(r);
	assert_false(is_released(r, 0));
	looks = atomic_load(&r->guest.release.nr_looks);
	rig_lift(r);
	assert_true(atomic_load(&r->guest.release.nr_looks) > looks);
	rig_release(r);
	assert_true(is_released(r, 0));
	assert_plain(r, 60, 0);
	rig_destroy(r);
}

/* What lies behind a released region is unknown while an event is unread: that is no answer. */
static void unknown_is_not_absent(void **state)
{
	struct rig *r = release_rig((struct rig_opts){ .nr_pages = 1024, .spare_pages = 8 });

	(void)state;
	rig_put(r, 512, 512);
	rig_release(r);
	assert_true(is_released(r, 1023));
	fake_discard(&r->fake, rig_addr(r, 3), 1, false);
	fln_region_deny_grown(&r->region);
	assert_int_equal(r->guest.nr_undenied, 1);
	assert_false(fln_strays_deny_again(&r->guest));
	rig_serve(r);
	fake_run(&r->fake);
	assert_true(fln_strays_deny_again(&r->guest));
	rig_destroy(r);
}

/* Shards that need no look cost something, too: faults go first. */
static void many_shards_take_slices(void **state)
{
	struct rig *r = release_rig((struct rig_opts){ .nr_pages = 512 });
	struct fln_shard *shards = calloc(1000, sizeof(*shards));
	uint32_t nr_slices = 0;

	(void)state;
	assert_non_null(shards);
	for (uint32_t i = 0; i < 1000; i++) {
		shards[i].guest = &r->guest;
		shards[i].index = 1;
		shards[i].next_of_worker = i + 1 < 1000 ? &shards[i + 1] : NULL;
	}
	r->worker.shards = shards;
	atomic_store(&r->worker.release_asked, true);
	do {
		fln_release_round(&r->worker, true, false);
		nr_slices++;
	} while ((r->worker.release.active || r->worker.release.asked ||
		  r->worker.release.nr_put_off > 0) &&
		 nr_slices < 1000);
	assert_in_range(nr_slices, 5 * 15, 999);
	r->worker.shards = NULL;
	free(shards);
	rig_destroy(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_kernel_refuses_half_way),
		cmocka_unit_test(a_refusal_wakes),
		cmocka_unit_test(private_mappings_do_not_merge),
		cmocka_unit_test(foreign_mappings_are_its_guests),
		cmocka_unit_test(lifting_poison_leads_to_it),
		cmocka_unit_test(unknown_is_not_absent),
		cmocka_unit_test(many_shards_take_slices),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
