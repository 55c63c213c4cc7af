/* SPDX-License-Identifier: MIT */
/* Which blocks leave their userfaultfd, and which stay. */
#include "engine/release.h"

#include "base/clock.h"
#include "base/rcu.h"
#include "engine/release_ask.h"
#include "engine/release_run.h"
#include "tests/support/release_rig.h"

static void whole_blocks_only(void **state)
{
	struct rig *r = release_rig((struct rig_opts){ .nr_pages = 1500, .lead_pages = 9 });

	(void)state;
	rig_put(r, 0, 503); /* all of the first block, which begins before the region */
	rig_put(r, 503, 511);
	rig_release(r);
	assert_true(is_released(r, 0));
	assert_false(is_released(r, 503));
	assert_int_equal(COUNT(r, released_bytes), fln_pages_to_bytes(503));
	assert_plain(r, 0, rig_due(r, 0));
	assert_plain(r, 502, rig_due(r, 502));
	assert_int_equal(nr_events(r, FLN_EVENT_GUEST_WHOLE), 0);
	rig_put(r, 1014, 486);
	rig_release(r);
	assert_true(is_released(r, 1014));
	assert_true(is_released(r, 1499));           /* the last one is shorter, too */
	assert_int_equal(r->fake.nr_unregisters, 2); /* neighbours leave together */
	assert_true(atomic_load(&r->guest.release.is_due));
	assert_int_equal(COUNT(r, released_bytes), fln_pages_to_bytes(1500));
	assert_int_equal(nr_events(r, FLN_EVENT_GUEST_WHOLE), 1);
	rig_destroy(r);
}

/* While it is added its stripes are still to be registered: released before, they would fault. */
static void not_before_it_is_registered(void **state)
{
	struct rig *r = release_rig((struct rig_opts){ .nr_pages = 1024 });

	(void)state;
	rig_put(r, 0, 1024);
	atomic_store(&r->region.is_open, false);
	rig_release(r);
	assert_false(is_released(r, 0));
	assert_int_equal(r->fake.nr_unregisters, 0);
	atomic_store(&r->region.is_open, true);
	fln_release_look_now(&r->guest);
	rig_release(r);
	assert_true(is_released(r, 0));
	rig_destroy(r);
}

/* The region's blocks lie across the image's. */
static void not_aligned_with_its_image(void **state)
{
	struct rig *r = release_rig((struct rig_opts){ .nr_pages = 1024, .image_page = 100 });

	(void)state;
	rig_put(r, 0, 511);
	rig_release(r);
	assert_false(is_released(r, 0));
	rig_put(r, 511, 1);
	rig_release(r);
	assert_true(is_released(r, 0));
	assert_false(is_released(r, 512));
	assert_plain(r, 511, rig_due(r, 511));
	rig_destroy(r);
}

static void unless_declined(void **state)
{
	struct rig *r = release_rig((struct rig_opts){ .release = FLN_RELEASE_NEVER });

	(void)state;
	rig_put(r, 0, 1024);
	rig_release(r);
	assert_false(is_released(r, 0));
	r->region.release = FLN_RELEASE_ON_CALL;
	rig_release(r);
	assert_false(is_released(r, 0));
	/* As fln_guest_release() asks. */
	r->guest.release.nr_pending = 1;
	atomic_fetch_add(&r->guest.release.nr_passes, 1);
	rig_release(r);
	assert_true(is_released(r, 0));
	assert_int_equal(r->guest.release.nr_pending, 0);
	assert_int_equal(atomic_load(&r->guest.release.bytes[FLN_FATE_DONE]),
			 fln_pages_to_bytes(1024));
	rig_destroy(r);
}

/* Where zeros are due after a discard, the kernel alone would map the image's contents. */
static void not_where_discards_read_zero(void **state)
{
	struct rig *r = release_rig((struct rig_opts){ .is_private = true });

	(void)state;
	rig_put(r, 0, 1024);
	rig_release(r);
	assert_false(is_released(r, 0));
	rig_destroy(r);
	r = release_rig((struct rig_opts){ .is_private = true, .discard = FLN_DISCARD_IMAGE });
	rig_put(r, 0, 1024);
	rig_release(r);
	assert_true(is_released(r, 0));
	assert_plain(r, 5, rig_due(r, 5));
	rig_destroy(r);
}

static void foreign_when_copied(void **state)
{
	struct rig *r = release_rig((struct rig_opts){ .foreign = true, .window = 512 });
	uint32_t t;

	(void)state;
	rig_put(r, 0, 1024);
	rig_release(r);
	assert_false(is_released(r, 0));
	fake_discard(&r->fake, rig_addr(r, 7), 1, false);
	rig_serve(r);
	t = rig_touch(r, 3);
	rig_settle(r);
	rig_assert_read(r, t, rig_due(r, 3));
	rig_release(r);
	assert_true(is_released(r, 0));
	assert_false(is_released(r, 512));
	assert_plain(r, 8, rig_due(r, 8));
	rig_destroy(r);
	/* Discards bring contents back: they have to be served. */
	r = release_rig(
		(struct rig_opts){ .foreign = true, .window = 512, .discard = FLN_DISCARD_IMAGE });
	rig_put(r, 0, 1024);
	(void)rig_touch(r, 3);
	rig_settle(r);
	rig_release(r);
	assert_false(is_released(r, 0));
	rig_destroy(r);
	/* Somebody else has put pages there, whose contents nobody knows. */
	r = release_rig((struct rig_opts){ .foreign = true, .window = 512 });
	rig_put(r, 0, 1024);
	(void)rig_touch(r, 3);
	rig_settle(r);
	atomic_store(&r->guest.found_pages, true);
	rig_release(r);
	assert_false(is_released(r, 0));
	rig_destroy(r);
}

static void poison_keeps_its_block(void **state)
{
	struct rig *r = release_rig((struct rig_opts){ .nr_pages = 1024 });
	uint32_t t;

	(void)state;
	r->bad[600] = true;
	t = rig_touch(r, 600);
	rig_settle(r);
	rig_assert_killed(r, t);
	rig_put(r, 0, 1024); /* that page, too */
	rig_release(r);
	assert_true(is_released(r, 0));
	assert_false(is_released(r, 512));
	assert_int_equal(fake_page(&r->fake, rig_addr(r, 600))->pte, FAKE_POISONED);
	/* Lifted by DONTNEED, which the event only says to be a discard. */
	fake_discard(&r->fake, rig_addr(r, 600), 1, false);
	rig_serve(r);
	rig_lift(r);
	t = rig_touch(r, 600);
	rig_settle(r);
	rig_assert_read(r, t, rig_due(r, 600));
	rig_release(r);
	assert_true(is_released(r, 512));
	rig_destroy(r);
}

static void not_while_a_page_is_claimed(void **state)
{
	struct rig *r = release_rig((struct rig_opts){ .nr_pages = 1024 });
	struct fln_mask one = fln_mask_range(4, 5), won;
	struct fln_chunk *c;

	(void)state;
	rig_put(r, 0, 1024);
	fln_rcu_read_lock();
	c = fln_blockmap_chunk(&r->region.map, 0);
	won = fln_region_claim(c, &one);
	rig_release(r);
	assert_false(is_released(r, 0));
	assert_true(is_released(r, 512));
	assert_true(r->shard.release_left);
	/* It is tried again by the clock. */
	assert_true(r->worker.release.at_ns < UINT64_MAX);
	assert_true(fln_release_patience(&r->worker, -1) >= 0);
	fln_region_settle(c, &won, FLN_PAGE_ABSENT);
	fln_rcu_read_unlock();
	r->worker.shards = &r->shard;
	for (uint64_t t0 = fln_now_ns(); !is_released(r, 0);) {
		fln_release_round(&r->worker, false, false);
		assert_true(fln_now_ns() - t0 < 20 * FLN_NS_PER_S);
	}
	r->worker.shards = NULL;
	rig_destroy(r);
}

static void discards_before_and_after(void **state)
{
	struct rig *r = release_rig((struct rig_opts){ .nr_pages = 1024 });

	(void)state;
	rig_put(r, 0, 1024);
	fake_discard(&r->fake, rig_addr(r, 3), 2, true);
	rig_release(r); /* its event is unread */
	assert_true(is_released(r, 0));
	rig_serve(r);
	assert_true(is_released(r, 0));
	assert_plain(r, 3, 0);
	assert_plain(r, 5, rig_due(r, 5));
	fake_punch(&r->fake, rig_addr(r, 6), 1);
	assert_plain(r, 6, 0);
	fake_zap(&r->fake, rig_addr(r, 7), 1);
	assert_plain(r, 7, rig_due(r, 7));
	rig_destroy(r);
}

/* One stripe: a block in its middle takes two mappings more, one beside a released one none. */
static void keeps_to_the_budget(void **state)
{
	struct rig *r = release_rig((struct rig_opts){ .nr_pages = 5 * 512, .pushed = true });

	(void)state;
	r->engine.opts.max_stripes = 3;
	rig_put(r, 2 * 512, 512);
	rig_release(r);
	assert_false(is_released(r, 2 * 512)); /* two of three would leave less than half */
	assert_true(r->shard.release_left);
	r->engine.opts.max_stripes = 4;
	rig_release(r);
	assert_true(is_released(r, 2 * 512));
	assert_int_equal(r->region.nr_release_maps, 2);
	assert_int_equal(atomic_load(&r->engine.nr_stripes), 2);
	rig_put(r, 0, 512); /* at an edge: one more, which is half of what is left */
	rig_put(r, 3 * 512, 512);
	rig_release(r);
	assert_true(is_released(r, 0));
	assert_true(is_released(r, 3 * 512)); /* beside a released one */
	assert_int_equal(r->region.nr_release_maps, 3);
	rig_put(r, 512, 512);
	rig_put(r, 4 * 512, 512);
	rig_release(r);
	assert_true(fln_region_all_released(&r->region));
	assert_int_equal(r->region.nr_release_maps, 0);
	assert_int_equal(atomic_load(&r->engine.nr_stripes), 0);
	rig_destroy(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(whole_blocks_only),
		cmocka_unit_test(not_before_it_is_registered),
		cmocka_unit_test(not_aligned_with_its_image),
		cmocka_unit_test(unless_declined),
		cmocka_unit_test(not_where_discards_read_zero),
		cmocka_unit_test(foreign_when_copied),
		cmocka_unit_test(poison_keeps_its_block),
		cmocka_unit_test(not_while_a_page_is_claimed),
		cmocka_unit_test(discards_before_and_after),
		cmocka_unit_test(keeps_to_the_budget),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
