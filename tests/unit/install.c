/* SPDX-License-Identifier: MIT */
/* Installing pages of one block by runs: what becomes of each page, and which threads are woken. */
#include "engine/install.h"
#include "base/page.h"
#include "engine/state/guest.h"
#include "engine/uffd.h"
#include "sources/image.h"
#include "sources/image_discard.h"
#include "sources/image_state.h"

#include "tests/support/cm.h"
#include "tests/support/rig.h"

#include <errno.h>

#define NR 64u

static struct fln_install job(struct rig *r, uint32_t faulting_lo, uint32_t faulting_hi)
{
	return (struct fln_install){
		.shard = &r->shard,
		.region = &r->region,
		.block_addr = r->region.base_addr,
		.faulting = fln_mask_range(faulting_lo, faulting_hi),
	};
}

static void assert_is(const struct fln_mask *m, uint32_t lo, uint32_t hi)
{
	struct fln_mask want = fln_mask_range(lo, hi);

	assert_memory_equal(m, &want, sizeof(want));
}

static struct rig *filled_rig(void)
{
	struct rig *r = rig_create(&(struct rig_opts){ .nr_pages = NR });

	rig_put(r, 0, NR);
	return r;
}

static void one_call_per_run(void **state)
{
	struct rig *r = filled_rig();
	struct fln_mask pages = fln_mask_range(0, 16);
	struct fln_install in = job(r, 2, 3);
	uint32_t thread = rig_touch(r, 2);

	(void)state;
	fln_mask_clear(&pages, 7);
	fln_install_filled(&in, &pages);
	assert_memory_equal(&in.present, &pages, sizeof(pages));
	assert_int_equal(r->fake.nr_calls[FAKE_CONTINUE], 2);
	assert_int_equal(r->fake.nr_wake_calls, 0); /* the call itself wakes */
	assert_int_equal(rig_count(&r->shard.count.pages_installed), 15);
	fake_run(&r->fake);
	rig_assert_read(r, thread, rig_due(r, 2));
	rig_destroy(r);
}

static void a_lost_race_wakes_only_waiting_threads(void **state)
{
	struct rig *r = filled_rig();
	struct fln_mask pages = fln_mask_range(0, 8);
	struct fln_install in = job(r, 3, 4);
	uint32_t thread = rig_touch(r, 3);

	(void)state;
	fake_page(&r->fake, rig_addr(r, 3))->pte = FAKE_MAPPED;
	fake_page(&r->fake, rig_addr(r, 5))->pte = FAKE_MAPPED;
	fln_install_filled(&in, &pages);
	assert_is(&in.present, 0, 8);
	assert_int_equal(rig_count(&r->shard.count.pages_raced), 2);
	assert_int_equal(rig_count(&r->shard.count.pages_installed), 6);
	assert_int_equal(r->fake.nr_wake_calls, 1);
	fake_run(&r->fake);
	rig_assert_read(r, thread, rig_due(r, 3));
	rig_destroy(r);
}

static void a_hole_is_zero_where_a_thread_waits(void **state)
{
	struct rig *r = filled_rig();
	struct fln_mask pages = fln_mask_range(0, 16);
	struct fln_install in = job(r, 5, 6);
	uint32_t thread = rig_touch(r, 5);

	(void)state;
	fake_punch(&r->fake, rig_addr(r, 4), 4);
	fln_install_filled(&in, &pages);
	fake_run(&r->fake);
	rig_assert_read(r, thread, 0);
	assert_true(fln_mask_test(&in.zeroed, 5));
	assert_int_equal(fln_mask_count(&in.zeroed), 1); /* the rest of the hole costs nothing */
	assert_int_equal(fln_mask_count(&in.present), 13);
	for (uint64_t p = 4; p < 8; p++)
		assert_int_equal(fln_image_state(&r->image, p), FLN_IMAGE_ZERO);
	rig_destroy(r);
}

static void an_event_stops_everything(void **state)
{
	struct rig *r = filled_rig();
	struct fln_mask pages = fln_mask_range(0, 16), poisoned = { { 0 } };
	struct fln_install in = job(r, 0, 1);

	(void)state;
	fln_mask_clear(&pages, 8);
	fake_discard(&r->fake, rig_addr(r, 60), 1, false);
	fln_install_filled(&in, &pages);
	assert_true(in.stop);
	assert_int_equal(fake_nr_installs(&r->fake), 1); /* more would fail too */
	assert_true(fln_mask_empty(&in.present));
	assert_is(&in.again, 0, 8);
	fln_install_zero(&in, &pages);
	fln_install_poison(&in, &pages, &poisoned);
	assert_int_equal(fake_nr_installs(&r->fake), 1);
	assert_true(fln_mask_empty(&poisoned));
	assert_int_equal(rig_count(&r->shard.count.again), 1);
	rig_destroy(r);
}

static void no_memory_is_tried_again(void **state)
{
	struct rig *r = filled_rig();
	struct fln_mask pages = fln_mask_range(0, 8);
	struct fln_install in = job(r, 0, 1);

	(void)state;
	r->fake.fail_in = 1;
	r->fake.fail_errno = ENOMEM;
	fln_install_filled(&in, &pages);
	assert_false(in.stop);
	assert_is(&in.again, 0, 8);
	rig_destroy(r);
}

static void other_errors_are_of_one_page(void **state)
{
	struct rig *r = filled_rig();
	struct fln_mask pages = fln_mask_range(0, 8);
	struct fln_install in = job(r, 0, 1);

	(void)state;
	r->fake.fail_in = 1;
	r->fake.fail_errno = EINVAL;
	fln_install_filled(&in, &pages);
	assert_is(&in.broken, 0, 1);
	assert_is(&in.present, 1, 8);
	rig_destroy(r);
}

/* Every part of a block that was unmapped, every width: what is left is mapped. */
static void what_has_gone_takes_nothing_with_it(void **state)
{
	(void)state;
	for (uint32_t lo = 0; lo < 12; lo += 3) {
		for (uint32_t nr = 1; nr <= 5; nr += 2) {
			struct rig *r = filled_rig();
			struct fln_mask pages = fln_mask_range(0, 16);
			struct fln_install in = job(r, 0, 16);
			struct fln_mask gone = fln_mask_range(lo, lo + nr), left;

			for (uint32_t p = lo; p < lo + nr; p++)
				fake_page(&r->fake, rig_addr(r, p))->vma = false;
			fln_install_filled(&in, &pages);
			left = fln_mask_andnot(&pages, &gone);
			assert_memory_equal(&in.present, &left, sizeof(left));
			assert_memory_equal(&in.gone, &gone, sizeof(gone));
			assert_true(fake_nr_installs(&r->fake) < 40);
			rig_destroy(r);
		}
	}
}

static void zeros(void **state)
{
	struct rig *r = rig_create(&(struct rig_opts){ .nr_pages = NR });
	struct fln_mask pages = fln_mask_range(0, 4);
	struct fln_install in = job(r, 0, 4);
	uint32_t cached, fresh;
	static const uint64_t words[512] = { 0 };

	(void)state;
	fln_image_give_up(&r->image, 0, 4);
	/* Somebody read the hole through another mapping: there is a page of zeros. */
	assert_int_equal(pwrite(r->image.memfd, words, sizeof(words), 2 * FLN_PAGE_BYTES),
			 sizeof(words));
	cached = rig_touch(r, 2);
	fresh = rig_touch(r, 3);
	fln_install_zero(&in, &pages);
	assert_is(&in.present, 0, 4);
	assert_false(fln_mask_test(&in.zeroed, 2));
	fake_run(&r->fake);
	rig_assert_read(r, cached, 0);
	rig_assert_read(r, fresh, 0);
	rig_destroy(r);
}

static void poison(void **state)
{
	struct rig *r = filled_rig();
	struct fln_mask pages = fln_mask_range(0, 8), poisoned = { { 0 } };
	struct fln_install in = job(r, 0, 8);
	uint32_t waits = rig_touch(r, 2), raced = rig_touch(r, 5);

	(void)state;
	fake_page(&r->fake, rig_addr(r, 5))->pte = FAKE_MAPPED;
	fln_install_poison(&in, &pages, &poisoned);
	assert_is(&in.present, 5, 6);
	assert_int_equal(fln_mask_count(&poisoned), 7);
	fake_run(&r->fake);
	rig_assert_killed(r, waits);
	rig_assert_read(r, raced, rig_due(r, 5));
	rig_destroy(r);
}

/* Before Linux 6.6 the access is taken away. */
static void without_poison_the_access_goes(void **state)
{
	struct rig *r = filled_rig();
	struct fln_mask pages = fln_mask_range(1, 3), poisoned = { { 0 } };
	struct fln_install in = job(r, 1, 3);

	(void)state;
	r->shard.uffd.range_ioctls = 0;
	fln_install_poison(&in, &pages, &poisoned);
	assert_is(&poisoned, 1, 3);
	assert_int_equal(r->fake.nr_calls[FAKE_POISON], 0);
	assert_int_equal(r->fake.nr_wake_calls, 1);
	for (uint64_t page = 0; page < 4; page++)
		assert_int_equal(fake_page(&r->fake, rig_addr(r, page))->denied,
				 page == 1 || page == 2);
	/* In another process's memory that is not to be done: its threads go on waiting. */
	r->region.foreign = true;
	poisoned = (struct fln_mask){ { 0 } };
	fln_install_poison(&in, &pages, &poisoned);
	assert_true(fln_mask_empty(&poisoned));
	assert_is(&in.broken, 1, 3);
	assert_int_equal(r->fake.nr_denied, 1);
	r->region.foreign = false;
	rig_destroy(r);
}

static void foreign_memory_is_copied(void **state)
{
	struct rig *r =
		rig_create(&(struct rig_opts){ .nr_pages = NR, .foreign = true, .image_page = 11 });
	struct fln_mask pages = fln_mask_range(0, 8);
	struct fln_install in = job(r, 3, 4);
	uint32_t thread;

	(void)state;
	rig_put(r, 0, NR);
	thread = rig_touch(r, 3);
	fln_install_filled(&in, &pages);
	assert_is(&in.present, 0, 8);
	assert_int_equal(r->fake.nr_calls[FAKE_COPY], 1);
	assert_int_equal(r->fake.nr_calls[FAKE_CONTINUE], 0);
	fake_run(&r->fake);
	rig_assert_read(r, thread, rig_due(r, 3));
	rig_destroy(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_call_per_run),
		cmocka_unit_test(a_lost_race_wakes_only_waiting_threads),
		cmocka_unit_test(a_hole_is_zero_where_a_thread_waits),
		cmocka_unit_test(an_event_stops_everything),
		cmocka_unit_test(no_memory_is_tried_again),
		cmocka_unit_test(other_errors_are_of_one_page),
		cmocka_unit_test(what_has_gone_takes_nothing_with_it),
		cmocka_unit_test(zeros),
		cmocka_unit_test(poison),
		cmocka_unit_test(without_poison_the_access_goes),
		cmocka_unit_test(foreign_memory_is_copied),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
