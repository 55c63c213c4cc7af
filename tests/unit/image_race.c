/* SPDX-License-Identifier: MIT */
/*
 * Discards that race with fills: an event that has been read and not been acted
 * upon, while its thread has gone on and a fill writes what it gave up.
 */
#include "sources/image.h"
#include "sources/image_discard.h"
#include "sources/image_state.h"
#include "sources/image_want.h"
#include "sources/reading.h"

#include "tests/support/cm.h"
#include "tests/support/rig.h"

#include <pthread.h>
#include <sched.h>

#define PATIENCE 2000 /* yields in which something that must not happen could */

struct race {
	struct rig *rig;
	pthread_t filler;
	_Atomic bool published;
};

static bool cached(struct rig *r, uint64_t page)
{
	return fake_in_cache(&(struct fake_page){ .fd = r->image.memfd, .file_page = page });
}

static void *fill_all(void *arg)
{
	struct race *race = arg;
	bool entered = fln_rcu_enter();

	assert_int_equal(rig_fill(race->rig, UINT32_MAX), 1);
	atomic_store(&race->published, true);
	fln_rcu_leave(entered);
	return NULL;
}

static void start_fill(struct race *race)
{
	assert_int_equal(pthread_create(&race->filler, NULL, fill_all, race), 0);
	while (!cached(race->rig, 7)) /* the last of its pages */
		(void)sched_yield();
	for (int i = 0; i < PATIENCE; i++)
		(void)sched_yield();
}

static struct rig *rig_of_two_fills(void)
{
	return rig_create(&(struct rig_opts){ .nr_pages = 16, .fill_pages = 8 });
}

static void nothing_is_published_while_events_are_read(void **state)
{
	struct race race = { .rig = rig_of_two_fills() };
	struct rig *r = race.rig;

	(void)state;
	assert_int_equal(fln_image_request(&r->image, 0, 1), FLN_IMAGE_IS_PENDING);
	fln_filler_reading_begin(&r->filler, 63);
	start_fill(&race);
	assert_false(atomic_load(&race.published));
	assert_int_equal(fln_image_state(&r->image, 1), FLN_IMAGE_FILLING);
	fln_image_give_up(&r->image, 1, 2);
	fln_filler_reading_end(&r->filler, 63);
	assert_int_equal(pthread_join(race.filler, NULL), 0);
	for (uint64_t p = 0; p < 8; p++) {
		bool given_up = p == 1 || p == 2;

		assert_int_equal(fln_image_state(&r->image, p),
				 given_up ? FLN_IMAGE_ZERO : FLN_IMAGE_FILLED);
		assert_int_equal(cached(r, p), !given_up);
	}
	rig_destroy(r);
}

static void a_worker_that_reads_later_is_not_waited_for(void **state)
{
	struct rig *r = rig_of_two_fills();

	(void)state;
	fln_filler_reading_begin(&r->filler, 5);
	fln_filler_reading_end(&r->filler, 5);
	rig_put(r, 0, 1);
	assert_int_equal(fln_image_state(&r->image, 0), FLN_IMAGE_FILLED);
	rig_destroy(r);
}

static struct race in_worker;

/* The worker has read the event: the thread that caused it punches, and only then is the page written. */
static void go_on_and_fill(void *ctx)
{
	struct rig *r = ctx;

	r->fake.on_read = NULL;
	fake_run(&r->fake);
	assert_false(fake_event_pending(&r->fake));
	start_fill(&in_worker);
	assert_false(atomic_load(&in_worker.published));
}

static void a_removed_page_that_is_filled_before_its_event_is_acted_upon(void **state)
{
	struct rig *r = rig_of_two_fills();
	uint32_t first, kept, removed;

	(void)state;
	in_worker = (struct race){ .rig = r };
	first = rig_touch(r, 0);
	rig_serve(r); /* the fill of all eight is queued */
	fake_discard(&r->fake, rig_addr(r, 2), 1, true);
	r->fake.on_read = go_on_and_fill;
	rig_serve(r);
	assert_int_equal(pthread_join(in_worker.filler, NULL), 0);
	assert_int_equal(fln_image_state(&r->image, 2), FLN_IMAGE_ZERO);
	assert_false(cached(r, 2));
	kept = rig_touch(r, 1);
	removed = rig_touch(r, 2);
	rig_settle(r);
	rig_assert_read(r, first, rig_due(r, 0));
	rig_assert_read(r, kept, rig_due(r, 1));
	rig_assert_read(r, removed, 0);
	rig_destroy(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_is_published_while_events_are_read),
		cmocka_unit_test(a_worker_that_reads_later_is_not_waited_for),
		cmocka_unit_test(a_removed_page_that_is_filled_before_its_event_is_acted_upon),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
