/* SPDX-License-Identifier: MIT */
/* The worker on the fake kernel: faults whose contents are not there, and events in between. */
#include "base/blockmap.h"
#include "base/clock.h"
#include "base/lock.h"
#include "base/page.h"
#include "base/rcu.h"
#include "engine/held.h"
#include "engine/region_map.h"
#include "engine/serve.h"
#include "engine/state/guest.h"
#include "engine/state/worker.h"
#include "sources/filler.h"
#include "sources/image.h"
#include "sources/image_state.h"
#include "tests/support/cm.h"
#include "tests/support/rig.h"

#include <errno.h>
#include <faultlane/guest.h>
#include <faultlane/image.h>
#include <stdbool.h>
#include <string.h>

#define COUNT(r, what) rig_count(&(r)->shard.count.what)

static struct rig *rig_of(struct rig_opts opts)
{
	return rig_create(&opts);
}

static void what_is_there_does_not_wait_for_what_is_not(void **state)
{
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 64, .window = 1 });
	uint32_t slow, fast[20];

	(void)state;
	rig_put(r, 20, 20);
	slow = rig_touch(r, 0);
	for (uint32_t i = 0; i < 20; i++)
		fast[i] = rig_touch(r, 20 + i);
	rig_serve(r);
	for (uint32_t i = 0; i < 20; i++)
		rig_assert_read(r, fast[i], rig_due(r, 20 + i));
	assert_int_equal(rig_thread(r, slow)->state, FAKE_WAITING);
	assert_int_equal(r->worker.nr_held, 1);
	rig_check_accounts(r);
	rig_held(r); /* nothing new: it stays */
	assert_int_equal(r->worker.nr_held, 1);
	assert_int_equal(r->nr_source_reads, 0);
	assert_int_equal(rig_fill(r, 1), 1);
	assert_int_equal(r->kicked, 1u << 3); /* this worker */
	rig_held(r);
	rig_assert_read(r, slow, rig_due(r, 0));
	assert_int_equal(COUNT(r, major), 1);
	assert_int_equal(COUNT(r, minor), 20);
	rig_destroy(r);
}

static void many_wait_for_one_fill(void **state)
{
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 64, .fill_pages = 8 });
	uint32_t t[12];

	(void)state;
	for (uint32_t i = 0; i < 12; i++)
		t[i] = rig_touch(r, i % 8);
	rig_serve(r);
	assert_int_equal(r->shard.nr_held, 12);
	assert_int_equal(r->worker.nr_held, 8); /* one entry per page */
	assert_int_equal(rig_fill(r, UINT32_MAX), 1);
	assert_int_equal(r->nr_source_reads, 1);
	rig_held(r);
	for (uint32_t i = 0; i < 12; i++) {
		rig_assert_read(r, t[i], rig_due(r, i % 8));
		assert_int_equal(rig_thread(r, t[i])->nr_faults, 1); /* no spurious wake */
	}
	assert_int_equal(COUNT(r, major), 12);
	rig_destroy(r);
}

/* A push of one page that takes its time: it begins here. */
static void begin_push(struct rig *r, struct fln_fill *fill, uint64_t page, bool has_failed)
{
	uint64_t at = rig_image_page(r, page);
	bool begun;

	fln_rcu_read_lock();
	fln_lock(&r->image.lock);
	begun = fln_fill_begin(&r->image, fill, at, at + 1, has_failed);
	fln_unlock(&r->image.lock);
	fln_rcu_read_unlock();
	assert_true(begun);
}

/*
 * Two pages are waited for.  One is pushed, which wakes all waiters; the push of the
 * other begins before the worker looks again: it has to hear of its end, too.
 */
static void a_push_that_begins_before_the_next_look(void **state)
{
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 64, .window = 1, .pushed = true });
	uint32_t first = rig_touch(r, 0), second = rig_touch(r, 1);
	struct fln_fill fill = { .page = 0 };

	(void)state;
	rig_serve(r);
	assert_int_equal(r->worker.nr_held, 2);
	rig_put(r, 0, 1);
	assert_int_equal(r->kicked, 1u << 3);
	begin_push(r, &fill, 1, false);
	rig_held(r);
	rig_assert_read(r, first, rig_due(r, 0));
	r->kicked = 0;
	fln_fill_publish(&r->image, &fill, 0, 1, FLN_IMAGE_ZERO);
	fln_fill_end(&r->image, &fill);
	assert_int_equal(r->kicked, 1u << 3);
	rig_held(r);
	rig_assert_read(r, second, 0);
	rig_destroy(r);
}

/* The same of a page that has failed, and is pushed before the worker hears of that. */
static void a_push_of_what_has_just_failed(void **state)
{
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 64, .window = 1, .fill_pages = 1 });
	uint32_t t = rig_touch(r, 1);
	struct fln_fill fill = { .page = 0 };

	(void)state;
	r->bad[1] = true;
	rig_serve(r);
	(void)rig_fill(r, UINT32_MAX);
	assert_int_equal(fln_image_state(&r->image, rig_image_page(r, 1)), FLN_IMAGE_FAILED);
	begin_push(r, &fill, 1, true);
	rig_held(r);
	assert_int_equal(rig_thread(r, t)->state, FAKE_WAITING);
	r->kicked = 0;
	fln_fill_publish(&r->image, &fill, 0, 1, FLN_IMAGE_ZERO);
	fln_fill_end(&r->image, &fill);
	assert_int_equal(r->kicked, 1u << 3);
	rig_held(r);
	rig_assert_read(r, t, 0);
	rig_destroy(r);
}

static void nobody_is_woken_before_his_page_is_there(void **state)
{
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 64, .window = 16 });
	uint32_t t[16];

	(void)state;
	for (uint32_t i = 0; i < 16; i++)
		t[i] = rig_touch(r, i);
	rig_serve(r);
	for (uint32_t i = 0; i < 16; i++) {
		assert_int_equal(rig_fill(r, 1), 16 - i); /* oldest first */
		rig_held(r);
		assert_int_equal(fake_count(&r->fake, FAKE_READ), i + 1);
		rig_check_accounts(r);
	}
	for (uint32_t i = 0; i < 16; i++)
		assert_int_equal(rig_thread(r, t[i])->nr_faults, 1);
	rig_destroy(r);
}

static void a_failed_page_is_poisoned(void **state)
{
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 64, .fill_pages = 8 });
	uint32_t bad[3], good, again;

	(void)state;
	r->bad[5] = true;
	for (uint32_t i = 0; i < 3; i++)
		bad[i] = rig_touch(r, 5);
	good = rig_touch(r, 6);
	rig_settle(r);
	for (uint32_t i = 0; i < 3; i++)
		rig_assert_killed(r, bad[i]);
	rig_assert_read(r, good, rig_due(r, 6));
	assert_int_equal(COUNT(r, poisoned), 3);
	assert_int_equal(COUNT(r, resumed), 1);
	assert_true(rig_map_says(r, FLN_PLANE_POISONED, 5));
	rig_check_accounts(r);
	/* The neighbours' windows leave the marker alone (rig_destroy() checks it). */
	rig_put(r, 0, 5);
	(void)rig_touch(r, 4);
	rig_settle(r);
	assert_int_equal(fake_page(&r->fake, rig_addr(r, 5))->pte, FAKE_POISONED);
	/* The guest clears the marker, the source has recovered: it is given up, so zero. */
	fake_discard(&r->fake, rig_addr(r, 5), 1, false);
	rig_settle(r);
	again = rig_touch(r, 5);
	rig_settle(r);
	rig_assert_read(r, again, 0);
	rig_destroy(r);
}

/* The image knows already, from another guest say, and this one's threads come all at once. */
static void a_page_that_failed_before(void **state)
{
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 64, .window = 1 });
	uint32_t t[3];

	(void)state;
	r->bad[5] = true;
	assert_int_equal(fln_image_fill(&r->image, 5 * FLN_PAGE_BYTES, FLN_PAGE_BYTES), -EIO);
	for (uint32_t i = 0; i < 3; i++)
		t[i] = rig_touch(r, 5);
	rig_serve(r);
	for (uint32_t i = 0; i < 3; i++)
		rig_assert_killed(r, t[i]);
	assert_int_equal(r->fake.nr_calls[FAKE_POISON], 1);
	assert_int_equal(COUNT(r, poisoned), 3);
	rig_destroy(r);
}

/* One fault is held while another one has the page poisoned; then its contents come after all. */
static void a_held_fault_leaves_poison_alone(void **state)
{
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 64, .window = 1 });
	uint32_t held = rig_touch(r, 5), late;

	(void)state;
	r->bad[5] = true;
	rig_serve(r);
	(void)rig_fill(r, UINT32_MAX);
	late = rig_touch(r, 5);
	rig_serve(r); /* finds that it has failed */
	rig_assert_killed(r, late);
	rig_assert_killed(r, held);
	rig_put(r, 5, 1);
	rig_held(r); /* rig_destroy() checks that the marker is still there */
	assert_int_equal(fake_page(&r->fake, rig_addr(r, 5))->pte, FAKE_POISONED);
	assert_true(rig_map_says(r, FLN_PLANE_POISONED, 5));
	assert_int_equal(COUNT(r, poisoned), 2);
	assert_int_equal(r->worker.nr_held, 0);
	rig_check_accounts(r);
	rig_destroy(r);
}

/* The poison is lifted, and its event not yet read: a thread that waits there again is not left asleep. */
static void a_held_fault_where_poison_was_lifted(void **state)
{
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 64, .window = 1 });
	struct fln_mask five = fln_mask_range(5, 6), won;
	uint32_t t = rig_touch(r, 5);
	struct fln_chunk *c;

	(void)state;
	rig_serve(r);
	assert_int_equal(r->worker.nr_held, 1);
	/* As a thread that resolves for itself leaves the map. */
	fln_rcu_read_lock();
	c = fln_blockmap_chunk(&r->region.map, 0);
	won = fln_region_claim(c, &five);
	assert_int_equal(fln_mask_count(&won), 1);
	fln_region_settle(c, &five, FLN_PAGE_POISONED);
	fln_rcu_read_unlock();
	rig_put(r, 5, 1);
	rig_held(r); /* woken, and faults again */
	rig_settle(r);
	rig_assert_read(r, t, rig_due(r, 5));
	rig_check_accounts(r);
	rig_destroy(r);
}

static void what_was_poisoned_may_be_pushed_later(void **state)
{
	struct rig *r = rig_of(
		(struct rig_opts){ .nr_pages = 64, .window = 1, .discard = FLN_DISCARD_IMAGE });
	uint32_t t;

	(void)state;
	r->bad[5] = true;
	t = rig_touch(r, 5);
	rig_settle(r);
	rig_assert_killed(r, t);
	rig_put(r, 5, 1);
	fake_discard(&r->fake, rig_addr(r, 5), 1, false); /* clears the marker */
	rig_serve(r);
	t = rig_touch(r, 5);
	rig_settle(r);
	rig_assert_read(r, t, rig_due(r, 5));
	rig_destroy(r);
}

static void a_source_that_does_not_answer(void **state)
{
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 64, .timeout_ns = 1, .window = 1 });
	uint32_t late = rig_touch(r, 3);

	(void)state;
	fln_serve_shard(&r->worker, &r->shard);
	assert_int_equal(r->worker.nr_held, 1);
	rig_pass_time(r, 2);
	rig_held(r);
	rig_assert_killed(r, late);
	assert_int_equal(COUNT(r, poisoned), 1);
	rig_check_accounts(r);
	/* What comes too late is still the image's. */
	assert_int_equal(rig_fill(r, UINT32_MAX), 1);
	assert_int_equal(fln_image_state(&r->image, 3), FLN_IMAGE_FILLED);
	rig_destroy(r);
}

/* What a fault has waited for a claim is over when it waits for contents. */
static void time_is_counted_anew_for_contents(void **state)
{
	struct rig *r = rig_create(&(struct rig_opts){ .window = 1 });
	struct fln_mask page = fln_mask_range(9, 10), won;
	struct fln_chunk *c;
	uint32_t t;

	(void)state;
	fln_rcu_read_lock();
	c = fln_blockmap_chunk(&r->region.map, 0);
	won = fln_region_claim(c, &page);
	fln_rcu_read_unlock();
	t = rig_touch(r, 9);
	rig_serve(r);
	assert_int_equal(r->worker.nr_held, 1);
	assert_int_equal(r->worker.held[0].reason, FLN_HELD_AGAIN);
	assert_true(r->worker.held[0].fault.again_since_ns > 0);
	fln_rcu_read_lock();
	fln_region_settle(c, &won, FLN_PAGE_ABSENT);
	fln_rcu_read_unlock();
	rig_held(r);
	assert_int_equal(r->worker.held[0].reason, FLN_HELD_FILL);
	assert_int_equal(r->worker.held[0].fault.again_since_ns, 0);
	rig_settle(r);
	rig_assert_read(r, t, rig_due(r, 9));
	rig_destroy(r);
}

static void contents_that_are_pushed(void **state)
{
	struct rig *r = rig_of(
		(struct rig_opts){ .nr_pages = 64, .pushed = true, .window = 1, .timeout_ns = 1 });
	uint32_t a = rig_touch(r, 3), b = rig_touch(r, 40);

	(void)state;
	rig_serve(r);
	while (fln_now_ns() <= r->worker.held[1].fault.t0_ns + 1)
		;
	rig_held(r);
	assert_int_equal(r->worker.nr_held, 2); /* the timeout is of sources */
	rig_put(r, 3, 1);
	assert_int_equal(r->nr_kicks, 1);
	rig_held(r);
	rig_assert_read(r, a, rig_due(r, 3));
	assert_int_equal(rig_thread(r, b)->state, FAKE_WAITING);
	/* The one that is left is told again. */
	rig_put(r, 40, 1);
	assert_int_equal(r->nr_kicks, 2);
	rig_held(r);
	rig_assert_read(r, b, rig_due(r, 40));
	rig_destroy(r);
}

static void no_fill_is_left(void **state)
{
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 64, .nr_fills = 2, .window = 1 });
	uint32_t t[10];

	(void)state;
	for (uint32_t i = 0; i < 10; i++)
		t[i] = rig_touch(r, i);
	rig_serve(r);
	assert_int_equal(rig_nr_queued_fills(r), 2);
	while (r->worker.nr_held > 0) {
		uint32_t kicks = r->nr_kicks;

		assert_true(rig_fill(r, 1) > 0);
		assert_true(r->nr_kicks > kicks); /* a waiter for a fill learns of each */
		rig_held(r);
	}
	for (uint32_t i = 0; i < 10; i++)
		rig_assert_read(r, t[i], rig_due(r, i));
	rig_destroy(r);
}

/* Nobody is lost when the table is full: a fault without room comes again later. */
static void a_full_table_puts_faults_back(void **state)
{
	struct rig *r = rig_of(
		(struct rig_opts){ .nr_pages = 64, .window = 1, .batch_max = 8, .held_max = 20 });

	(void)state;
	for (uint32_t i = 0; i < 40; i++)
		(void)rig_touch(r, i);
	for (uint32_t i = 0; i < 5; i++)
		rig_serve(r);
	assert_int_equal(r->worker.nr_held, 20);
	assert_int_equal(COUNT(r, held_full), 20);
	assert_int_equal(COUNT(r, faults), 40);
	assert_int_equal(COUNT(r, failed), 20);
	assert_int_equal(fake_count(&r->fake, FAKE_WAITING), 40);
	rig_check_accounts(r);
	/* There must be room for a while before they are told to come again. */
	assert_int_equal(rig_fill(r, 5), 40); /* also for those that were put back */
	rig_held(r);
	assert_int_equal(r->worker.nr_held, 15);
	assert_int_equal(fake_count(&r->fake, FAKE_QUEUED), 0);
	rig_check_accounts(r);
	rig_settle(r);
	assert_int_equal(fake_count(&r->fake, FAKE_READ), 40);
	rig_destroy(r);
}

/* Installs wait for the event, the event for its being read, and that for nobody. */
static void a_full_table_does_not_stop_events(void **state)
{
	struct rig *r = rig_of(
		(struct rig_opts){ .nr_pages = 64, .window = 1, .batch_max = 4, .held_max = 4 });

	(void)state;
	for (uint32_t i = 0; i < 20; i++)
		(void)rig_touch(r, i);
	rig_serve(r);
	assert_int_equal(r->worker.nr_held, 4);
	fake_discard(&r->fake, rig_addr(r, 60), 1, false);
	assert_int_equal(rig_fill(r, UINT32_MAX), 4);
	rig_held(r);
	assert_int_equal(r->worker.nr_again, 4); /* put off */
	rig_settle(r);
	assert_int_equal(fake_count(&r->fake, FAKE_READ), 20);
	assert_int_equal(COUNT(r, events), 1);
	rig_destroy(r);
}

static void a_shard_that_is_let_go_of_is_not_woken(void **state)
{
	struct rig *r = rig_of(
		(struct rig_opts){ .nr_pages = 64, .window = 1, .batch_max = 8, .held_max = 8 });

	(void)state;
	for (uint32_t i = 0; i < 20; i++)
		(void)rig_touch(r, i);
	for (uint32_t i = 0; i < 3; i++)
		rig_serve(r);
	assert_non_null(r->worker.overflowed);
	fln_drop_held(&r->worker, &r->shard);
	assert_null(r->worker.overflowed);
	assert_false(r->shard.overflowed);
	fln_wake_overflowed(&r->worker);
	assert_int_equal(r->fake.nr_wake_calls, 0);
	rig_destroy(r);
}

static void letting_go_of_a_shard(void **state)
{
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 64, .window = 1 });

	(void)state;
	for (uint32_t i = 0; i < 5; i++)
		(void)rig_touch(r, i);
	rig_serve(r);
	assert_int_equal(r->worker.nr_held, 5);
	fln_drop_held(&r->worker, &r->shard);
	assert_int_equal(r->worker.nr_held, 0);
	assert_int_equal(COUNT(r, poisoned), 5);
	rig_check_accounts(r);
	rig_destroy(r);
}

static void removed_in_the_same_batch(void **state)
{
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 64, .window = 1 });
	uint32_t unfilled, filled, beside;

	(void)state;
	rig_put(r, 4, 1);
	unfilled = rig_touch(r, 3);
	filled = rig_touch(r, 4);
	beside = rig_touch(r, 9);
	fake_discard(&r->fake, rig_addr(r, 3), 2, false);
	rig_serve(r); /* the faults are read first, and the event acted upon first */
	assert_int_equal(fln_image_state(&r->image, 3), FLN_IMAGE_ZERO);
	rig_settle(r);
	assert_int_equal(r->nr_reads[3], 0);
	rig_assert_read(r, unfilled, 0);
	rig_assert_read(r, filled, rig_due(r, 4));
	rig_assert_read(r, beside, rig_due(r, 9));
	rig_destroy(r);
}

static void removed_and_not_yet_read(void **state)
{
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 64, .window = 1, .batch_max = 2 });
	uint32_t t[2];

	(void)state;
	rig_put(r, 0, 10);
	t[0] = rig_touch(r, 0);
	t[1] = rig_touch(r, 1);
	r->fake.again_after_read = 2;
	fake_discard(&r->fake, rig_addr(r, 30), 1, false);
	fln_serve_shard(&r->worker, &r->shard); /* a full batch: the event stays behind */
	assert_int_equal(COUNT(r, events), 0);
	assert_int_equal(COUNT(r, again), 1); /* no call after the first is tried */
	assert_int_equal(r->worker.nr_again, 2);
	rig_check_accounts(r);
	fln_serve_held(&r->worker);
	assert_int_equal(r->worker.nr_held, 2);
	fln_serve_shard(&r->worker, &r->shard);
	assert_int_equal(COUNT(r, events), 1);
	fln_serve_held(&r->worker); /* the thread that caused it has not run yet */
	assert_int_equal(r->worker.nr_held, 2);
	rig_settle(r);
	for (uint32_t i = 0; i < 2; i++) {
		rig_assert_read(r, t[i], rig_due(r, i));
		assert_int_equal(rig_thread(r, t[i])->nr_faults, 1);
	}
	assert_int_equal(COUNT(r, minor), 2);
	rig_destroy(r);
}

/* REMOVE is told before the pages go: what is mapped in between goes with them. */
static void installed_between_the_event_and_the_zap(void **state)
{
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 64, .window = 1 });
	uint32_t t;

	(void)state;
	rig_put(r, 3, 1);
	fake_discard(&r->fake, rig_addr(r, 3), 1, true);
	fln_serve_shard(&r->worker, &r->shard);
	t = rig_touch(r, 3);
	fln_serve_shard(&r->worker, &r->shard);
	assert_int_equal(rig_thread(r, t)->state, FAKE_WOKEN);
	assert_true(rig_map_says(r, FLN_PLANE_PRESENT, 3));
	fake_run(&r->fake); /* zapped, and touched again */
	assert_int_equal(rig_thread(r, t)->state, FAKE_QUEUED);
	rig_settle(r);
	rig_assert_read(r, t, 0);
	assert_int_equal(COUNT(r, refaults), 1);
	rig_destroy(r);
}

static void removed_while_it_is_being_filled(void **state)
{
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 64, .window = 1 });
	uint32_t t = rig_touch(r, 3);

	(void)state;
	rig_serve(r);
	assert_int_equal(r->worker.nr_held, 1);
	fake_discard(&r->fake, rig_addr(r, 3), 1, true);
	rig_serve(r);
	assert_int_equal(rig_thread(r, t)->state, FAKE_WAITING);
	assert_int_equal(rig_fill(r, 1), 1);
	rig_held(r);
	rig_assert_read(r, t, 0); /* not the contents that were on their way */
	assert_int_equal(COUNT(r, zero), 1);
	rig_destroy(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_there_does_not_wait_for_what_is_not),
		cmocka_unit_test(many_wait_for_one_fill),
		cmocka_unit_test(a_push_that_begins_before_the_next_look),
		cmocka_unit_test(a_push_of_what_has_just_failed),
		cmocka_unit_test(nobody_is_woken_before_his_page_is_there),
		cmocka_unit_test(a_failed_page_is_poisoned),
		cmocka_unit_test(a_page_that_failed_before),
		cmocka_unit_test(a_held_fault_leaves_poison_alone),
		cmocka_unit_test(a_held_fault_where_poison_was_lifted),
		cmocka_unit_test(what_was_poisoned_may_be_pushed_later),
		cmocka_unit_test(a_source_that_does_not_answer),
		cmocka_unit_test(time_is_counted_anew_for_contents),
		cmocka_unit_test(contents_that_are_pushed),
		cmocka_unit_test(no_fill_is_left),
		cmocka_unit_test(a_full_table_puts_faults_back),
		cmocka_unit_test(a_full_table_does_not_stop_events),
		cmocka_unit_test(a_shard_that_is_let_go_of_is_not_woken),
		cmocka_unit_test(letting_go_of_a_shard),
		cmocka_unit_test(removed_in_the_same_batch),
		cmocka_unit_test(removed_and_not_yet_read),
		cmocka_unit_test(installed_between_the_event_and_the_zap),
		cmocka_unit_test(removed_while_it_is_being_filled),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
