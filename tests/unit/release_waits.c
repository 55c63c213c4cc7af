/* SPDX-License-Identifier: MIT */
/* When blocks leave their userfaultfd, and what becomes then of threads that wait and of the end. */
#include "engine/release.h"

#include "base/clock.h"
#include "engine/context/registry.h"
#include "engine/life/deny.h"
#include "engine/release_ask.h"
#include "engine/serve.h"
#include "engine/state/worker.h"
#include "sources/filler.h"
#include "tests/support/release_rig.h"

#include <errno.h>
#include <faultlane/context.h>
#include <signal.h>
#include <string.h>

/* A refusal changes nothing: neither what the map knows nor who is served. */
static void the_kernel_refuses(void **state)
{
	struct rig *r = release_rig((struct rig_opts){ .nr_pages = 1536, .window = 512 });
	uint32_t t;

	(void)state;
	rig_put(r, 0, 1536);
	(void)rig_touch(r, 0); /* the first block is PRESENT, the second has a chunk */
	rig_settle(r);
	(void)fln_window_policy_init(&r->guest.window, 16, 16);
	(void)rig_touch(r, 512);
	rig_settle(r);
	r->fake.unregister_errno = ENOMEM;
	rig_release(r);
	assert_false(is_released(r, 0));
	assert_int_equal(fln_blockmap_uniform(&r->region.map, 0), 1 << FLN_PLANE_PRESENT);
	assert_int_equal(fln_blockmap_uniform(&r->region.map, 1), -1);
	assert_int_equal(fln_blockmap_uniform(&r->region.map, 2), 0);
	assert_true(rig_map_says(r, FLN_PLANE_PRESENT, 512));
	assert_false(rig_map_says(r, FLN_PLANE_CLAIMED, 512));
	/* It may have cut a mapping before it failed. */
	assert_int_equal(r->region.nr_release_maps, r->region.nr_failed_maps);
	assert_int_equal(COUNT(r, released_bytes), 0);
	assert_true(r->nr_log_lines > 0);
	t = rig_touch(r, 1024);
	rig_settle(r);
	rig_assert_read(r, t, rig_due(r, 1024));
	r->fake.unregister_errno = 0;
	rig_release(r);
	assert_true(is_released(r, 0) && is_released(r, 512) && is_released(r, 1024));
	assert_int_equal(r->region.nr_release_maps, 0);
	assert_int_equal(atomic_load(&r->engine.nr_stripes), 0);
	rig_destroy(r);
}

static void touch_now(void *ctx, uint64_t start, uint64_t len_bytes)
{
	struct rig *r = ctx;

	(void)len_bytes;
	*(uint32_t *)r->user = fake_touch(&r->fake, start + fln_pages_to_bytes(9));
}

/* Of those who wait in the block, each goes on, however far its fault has come. */
static void whoever_waits_goes_on(void **state)
{
	struct rig *r =
		release_rig((struct rig_opts){ .nr_pages = 1024, .window = 1, .pushed = true });
	uint32_t unread, held, late;
	uint64_t resumed;

	(void)state;
	held = rig_touch(r, 3);
	rig_serve(r);
	assert_int_equal(r->worker.nr_held, 1);
	rig_put(r, 0, 512);
	unread = rig_touch(r, 5);
	assert_int_equal(rig_thread(r, unread)->state, FAKE_QUEUED);
	r->user = &late;
	r->fake.on_unregister = touch_now;
	rig_release(r);
	r->fake.on_unregister = NULL;
	assert_true(is_released(r, 0));
	rig_assert_read(r, held, rig_due(r, 3));
	rig_assert_read(r, unread, rig_due(r, 5));
	rig_assert_read(r, late,
			rig_due(r, 9)); /* it came between UNREGISTER's wake and its lock */
	/* Its entry is still in the table, and ends at the next look, which is due. */
	assert_int_equal(r->worker.nr_held, 1);
	assert_true(atomic_load(&r->worker.kicked));
	resumed = COUNT(r, resumed);
	rig_held(r);
	assert_int_equal(r->worker.nr_held, 0);
	assert_int_equal(COUNT(r, resumed), resumed + 1);
	assert_int_equal(COUNT(r, released_faults), 1);
	rig_check_accounts(r);
	rig_destroy(r);
}

/* A message that was read before the release, and is served after it. */
static void a_batch_from_before(void **state)
{
	struct rig *r = release_rig((struct rig_opts){ .nr_pages = 1024 });
	uint32_t t;

	(void)state;
	rig_put(r, 0, 1024);
	t = rig_touch(r, 3);
	r->fake.on_read = NULL;
	/* As a thread's that is not woken by the release: it is counted and woken then. */
	fln_count(&r->shard.count.faults, 1);
	r->worker.faults[0] = (struct fln_fault){ .addr = rig_addr(r, 3), .nr = 1 };
	r->worker.faults[0].t0_ns = fln_now_ns();
	r->fake.threads[t].state = FAKE_WAITING;
	rig_release(r);
	fln_serve_faults(&r->worker, &r->shard, r->worker.faults, 1);
	fake_run(&r->fake);
	rig_assert_read(r, t, rig_due(r, 3));
	assert_int_equal(COUNT(r, released_faults), 1);
	assert_int_equal(fake_nr_installs(&r->fake), 0);
	rig_destroy(r);
}

/* By itself: a block that becomes whole kicks, and the sweep comes a little later. */
static void a_fill_leads_to_it(void **state)
{
	struct rig *r = release_rig((struct rig_opts){ .nr_pages = 1024, .pushed = true });

	(void)state;
	rig_release(r); /* the first look: it waits for blocks from now on */
	assert_true(r->worker.release.wanted);
	r->nr_kicks = 0;
	rig_put(r, 0, 511);
	assert_int_equal(r->nr_kicks, 0);
	rig_put(r, 511, 1);
	assert_int_equal(r->kicked, fln_waiter_bit(r->worker.opts.index));
	r->worker.shards = &r->shard;
	fln_release_round(&r->worker, false, true);
	assert_true(r->worker.release.at_ns < UINT64_MAX);
	for (uint64_t t0 = fln_now_ns(); !is_released(r, 0);) {
		fln_release_round(&r->worker, false, false);
		assert_true(fln_now_ns() - t0 < 20 * FLN_NS_PER_S);
	}
	r->worker.shards = NULL;
	rig_destroy(r);
}

/* While faults come in, sweeps wait for some rounds, and then release one run. */
static void faults_go_first(void **state)
{
	struct rig *r = release_rig((struct rig_opts){ .nr_pages = 4 * 512, .pushed = true });
	uint32_t nr_rounds = 0;

	(void)state;
	rig_put(r, 0, 512);
	rig_put(r, 2 * 512, 512);
	r->worker.shards = &r->shard;
	atomic_store(&r->guest.release.has_begun, true);
	atomic_store(&r->worker.release_asked, true);
	do {
		fln_release_round(&r->worker, true, false);
		nr_rounds++;
		assert_true(r->fake.nr_unregisters <= nr_rounds / 5);
	} while (r->worker.release.active && nr_rounds < 1000);
	assert_int_equal(r->fake.nr_unregisters, 2);
	assert_true(is_released(r, 0) && is_released(r, 2 * 512));
	r->worker.shards = NULL;
	rig_destroy(r);
}

/* A signal from before the release: the access is repeated.  Another one is the kernel's own. */
static void in_context(void **state)
{
	struct rig *r = release_rig((struct rig_opts){ .nr_pages = 1024, .nr_chunks = 2 });
	siginfo_t info;

	(void)state;
	r->shard.in_context = true;
	r->region.in_context = true;
	atomic_store(&r->guest.context_shards, &r->shard);
	rig_put(r, 0, 1024);
	assert_int_equal(fln_context_enter_region(&r->region), 0);
	assert_int_equal(fln_thread_enter(), 0);
	rig_release(r);
	assert_true(is_released(r, 0));
	memset(&info, 0, sizeof(info));
	info.si_signo = SIGBUS;
	info.si_code = BUS_ADRERR;
	info.si_addr = (void *)(uintptr_t)rig_addr(r, 5);
	assert_int_equal(fln_resolve(&info), FLN_RESOLVED);
	assert_int_equal(fln_resolve(&info), FLN_RESOLVED_NOT_OURS);
	assert_int_equal(fake_nr_installs(&r->fake), 0);
	fln_thread_leave();
	fln_context_leave_region(&r->region);
	rig_destroy(r);
}

static bool is_odd_elsewhere(uint64_t page)
{
	return page / 512 != 1 && page % 2;
}

/* There are more runs of missing pages than mappings: gaps are closed, but not over this block. */
static void the_end_leaves_it_alone(void **state)
{
	struct rig *r = release_rig((struct rig_opts){ .nr_pages = 1536, .pushed = true });
	uint32_t nr_lost = 0;

	(void)state;
	for (uint64_t page = 0; page < 1536; page++) {
		if (!is_odd_elsewhere(page))
			rig_put(r, page, 1);
	}
	rig_release(r);
	assert_true(is_released(r, 512));
	r->engine.opts.max_stripes = 0;
	assert_int_equal(fln_region_deny(&r->region), 0);
	for (uint64_t page = 0; page < 1536; page++) {
		const struct fake_page *p = fake_page(&r->fake, rig_addr(r, page));

		if (is_odd_elsewhere(page))
			assert_true(p->denied || p->vacated);
		else if (page / 512 != 1)
			nr_lost += p->denied || p->vacated;
		else
			assert_false(p->denied || p->vacated);
	}
	assert_true(nr_lost > 0); /* else nothing was short */
	r->engine.opts.max_stripes = 1024;
	rig_destroy(r);
}

/* Shards come and go while fln_guest_release() waits for them. */
static void a_shard_that_goes_is_not_waited_for(void **state)
{
	struct rig *r = release_rig((struct rig_opts){ .nr_pages = 512 });

	(void)state;
	r->guest.release.nr_pending = 1;
	atomic_fetch_add(&r->guest.release.nr_passes, 1);
	fln_release_forget(&r->worker, &r->shard);
	assert_int_equal(r->guest.release.nr_pending, 0);
	assert_true(r->shard.release_gone);
	/* One that has come since owes nothing to what was asked before. */
	atomic_fetch_add(&r->guest.release.nr_passes, 1);
	fln_release_enter(&r->shard);
	assert_int_equal(r->shard.release_passed, atomic_load(&r->guest.release.nr_passes));
	assert_false(r->shard.release_gone);
	rig_destroy(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_kernel_refuses),
		cmocka_unit_test(whoever_waits_goes_on),
		cmocka_unit_test(a_batch_from_before),
		cmocka_unit_test(a_fill_leads_to_it),
		cmocka_unit_test(faults_go_first),
		cmocka_unit_test(in_context),
		cmocka_unit_test(the_end_leaves_it_alone),
		cmocka_unit_test(a_shard_that_goes_is_not_waited_for),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
