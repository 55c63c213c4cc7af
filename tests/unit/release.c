/* SPDX-License-Identifier: MIT */
/* Blocks leave their userfaultfd: which, in what order, and what becomes of those who wait. */
#include "engine/release.h"

#include "base/blockmap.h"
#include "base/clock.h"
#include "base/rcu.h"
#include "engine/context/registry.h"
#include "engine/event_queue.h"
#include "engine/life/deny.h"
#include "engine/region_map.h"
#include "engine/release_ask.h"
#include "engine/release_run.h"
#include "engine/released.h"
#include "engine/serve.h"
#include "engine/state/guest.h"
#include "engine/state/worker.h"
#include "sources/filler.h"
#include "sources/image_state.h"
#include "tests/support/cm.h"
#include "tests/support/rig.h"

#include <errno.h>
#include <faultlane/context.h>
#include <faultlane/event.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>

#define COUNT(r, what) rig_count(&(r)->shard.count.what)

/* What is released has its contents, and no poison. */
static void on_plain(void *ctx, uint64_t addr)
{
	struct rig *r = ctx;
	uint64_t page = fln_bytes_to_pages(addr - r->region.addr);
	enum fln_image_page state = fln_image_state(&r->image, rig_image_page(r, page));

	assert_int_not_equal(fake_page(&r->fake, addr)->pte, FAKE_POISONED);
	if (!r->opts.foreign)
		assert_true(state == FLN_IMAGE_FILLED || state == FLN_IMAGE_ZERO);
}

static struct rig *rig_of(struct rig_opts opts)
{
	struct rig *r;

	opts.release = opts.release ? opts.release : FLN_RELEASE_AUTO;
	r = rig_create(&opts);
	r->fake.on_plain = on_plain;
	return r;
}

static bool is_released(struct rig *r, uint64_t page)
{
	return fln_released_at(&r->region, rig_addr(r, page));
}

/* A thread reads what is due, and nobody of ours is asked. */
static void assert_plain(struct rig *r, uint64_t page, uint64_t value)
{
	uint64_t faults = COUNT(r, faults);
	uint32_t t = rig_touch(r, page);

	rig_assert_read(r, t, value);
	rig_serve(r);
	assert_int_equal(COUNT(r, faults), faults);
	fake_reap(&r->fake, t);
}

static uint32_t nr_events(struct rig *r, uint32_t kind)
{
	struct fln_event e;
	uint32_t nr = 0;

	while (fln_event_take(&r->engine.events, &e))
		nr += e.kind == kind;
	return nr;
}

static void whole_blocks_only(void **state)
{
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 1500, .lead_pages = 9 });

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
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 1024 });

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
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 1024, .image_page = 100 });

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
	struct rig *r = rig_of((struct rig_opts){ .release = FLN_RELEASE_NEVER });

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
	struct rig *r = rig_of((struct rig_opts){ .is_private = true });

	(void)state;
	rig_put(r, 0, 1024);
	rig_release(r);
	assert_false(is_released(r, 0));
	rig_destroy(r);
	r = rig_of((struct rig_opts){ .is_private = true, .discard = FLN_DISCARD_IMAGE });
	rig_put(r, 0, 1024);
	rig_release(r);
	assert_true(is_released(r, 0));
	assert_plain(r, 5, rig_due(r, 5));
	rig_destroy(r);
}

static void foreign_when_copied(void **state)
{
	struct rig *r = rig_of((struct rig_opts){ .foreign = true, .window = 512 });
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
	r = rig_of(
		(struct rig_opts){ .foreign = true, .window = 512, .discard = FLN_DISCARD_IMAGE });
	rig_put(r, 0, 1024);
	(void)rig_touch(r, 3);
	rig_settle(r);
	rig_release(r);
	assert_false(is_released(r, 0));
	rig_destroy(r);
	/* Somebody else has put pages there, whose contents nobody knows. */
	r = rig_of((struct rig_opts){ .foreign = true, .window = 512 });
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
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 1024 });
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
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 1024 });
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

/* A refusal changes nothing: neither what the map knows nor who is served. */
static void the_kernel_refuses(void **state)
{
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 1536, .window = 512 });
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
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 1024, .window = 1, .pushed = true });
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
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 1024 });
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

static void discards_before_and_after(void **state)
{
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 1024 });

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
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 5 * 512, .pushed = true });

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

/* By itself: a block that becomes whole kicks, and the sweep comes a little later. */
static void a_fill_leads_to_it(void **state)
{
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 1024, .pushed = true });

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
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 4 * 512, .pushed = true });
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
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 1024, .nr_chunks = 2 });
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
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 1536, .pushed = true });
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
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 512 });

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
		cmocka_unit_test(whole_blocks_only),
		cmocka_unit_test(not_before_it_is_registered),
		cmocka_unit_test(not_aligned_with_its_image),
		cmocka_unit_test(unless_declined),
		cmocka_unit_test(not_where_discards_read_zero),
		cmocka_unit_test(foreign_when_copied),
		cmocka_unit_test(poison_keeps_its_block),
		cmocka_unit_test(not_while_a_page_is_claimed),
		cmocka_unit_test(the_kernel_refuses),
		cmocka_unit_test(whoever_waits_goes_on),
		cmocka_unit_test(a_batch_from_before),
		cmocka_unit_test(discards_before_and_after),
		cmocka_unit_test(keeps_to_the_budget),
		cmocka_unit_test(a_fill_leads_to_it),
		cmocka_unit_test(faults_go_first),
		cmocka_unit_test(in_context),
		cmocka_unit_test(the_end_leaves_it_alone),
		cmocka_unit_test(a_shard_that_goes_is_not_waited_for),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
