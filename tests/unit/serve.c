/* SPDX-License-Identifier: MIT */
/* The worker on the fake kernel: batches, windows, refaults, addresses of nobody, closing. */
#include "engine/serve.h"
#include "base/blockmap.h"
#include "base/clock.h"
#include "base/rcu.h"
#include "engine/life/closing.h"
#include "engine/region_map.h"
#include "engine/serve_block.h"
#include "engine/state/guest.h"
#include "engine/state/worker.h"
#include "sources/image.h"
#include "sources/image_discard.h"
#include "tests/support/cm.h"
#include "tests/support/rig.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

static struct rig *rig_of(struct rig_opts opts)
{
	return rig_create(&opts);
}

static struct rig *filled(struct rig_opts opts)
{
	struct rig *r = rig_create(&opts);

	rig_put(r, 0, r->opts.nr_pages);
	return r;
}

#define COUNT(r, what) rig_count(&(r)->shard.count.what)

static void an_exactly_full_batch(void **state)
{
	struct rig *r = filled((struct rig_opts){ .nr_pages = 1024, .batch_max = 16, .window = 1 });
	uint32_t t[33];

	(void)state;
	for (uint32_t i = 0; i < 33; i++)
		t[i] = rig_touch(r, i * 31);
	rig_serve(r);
	assert_int_equal(fake_count(&r->fake, FAKE_READ), 16);
	assert_int_equal(COUNT(r, faults), 16);
	rig_serve(r);
	rig_serve(r);
	rig_serve(r); /* nothing left: no message is no read */
	for (uint32_t i = 0; i < 33; i++)
		rig_assert_read(r, t[i], rig_due(r, i * 31));
	assert_int_equal(COUNT(r, reads), 3);
	assert_int_equal(COUNT(r, minor), 33);
	rig_destroy(r);
}

static void duplicates_are_installed_once(void **state)
{
	struct rig *r = filled((struct rig_opts){ .nr_pages = 64 });
	uint32_t t[10];

	(void)state;
	for (uint32_t i = 0; i < 10; i++)
		t[i] = rig_touch(r, 7);
	rig_serve(r);
	for (uint32_t i = 0; i < 10; i++) {
		rig_assert_read(r, t[i], rig_due(r, 7));
		assert_int_equal(rig_thread(r, t[i])->nr_faults, 1);
	}
	assert_int_equal(r->fake.nr_calls[FAKE_CONTINUE], 1);
	assert_int_equal(r->fake.nr_wake_calls, 0);
	assert_int_equal(COUNT(r, resumed), 10);
	assert_int_equal(COUNT(r, pages_installed), 16);
	rig_destroy(r);
}

static void windows_map_neighbours(void **state)
{
	struct rig *r = filled((struct rig_opts){ .nr_pages = 1024 });
	uint32_t t = rig_touch(r, 37), neighbour;

	(void)state;
	rig_serve(r);
	rig_assert_read(r, t, rig_due(r, 37));
	assert_int_equal(fake_nr_mapped(&r->fake), 16);
	neighbour = rig_touch(r, 47);
	rig_assert_read(r, neighbour, rig_due(r, 47)); /* without a fault */
	assert_true(rig_map_says(r, FLN_PLANE_PRESENT, 32));
	assert_false(rig_map_says(r, FLN_PLANE_PRESENT, 31));
	rig_destroy(r);
}

/* Regions that begin and end anywhere; the neighbourhood belongs to somebody else. */
static void windows_end_where_the_region_ends(void **state)
{
	static const uint32_t leads[] = { 0, 1, 7, 300, 509, 511 };
	static const uint32_t sizes[] = { 1, 2, 5, 513, 700 };

	(void)state;
	for (uint32_t i = 0; i < 6; i++) {
		for (uint32_t j = 0; j < 5; j++) {
			struct rig *r = filled((struct rig_opts){ .lead_pages = leads[i],
								  .nr_pages = sizes[j],
								  .image_page = 3,
								  .spare_pages = 512,
								  .window = 512 });
			uint32_t a = rig_touch(r, 0), b = rig_touch(r, sizes[j] - 1);

			rig_settle(r);
			rig_assert_read(r, a, rig_due(r, 0));
			rig_assert_read(r, b, rig_due(r, sizes[j] - 1));
			/* A call that reached beyond would have been refused. */
			assert_int_equal(COUNT(r, failed), 0);
			assert_int_equal(rig_thread(r, b)->nr_faults, 1);
			assert_true(fake_nr_mapped(&r->fake) <= sizes[j]);
			rig_destroy(r);
		}
	}
}

static void a_window_ends_at_its_block(void **state)
{
	struct rig *r = filled((struct rig_opts){ .nr_pages = 1536, .window = 512 });
	uint32_t t = rig_touch(r, 600);

	(void)state;
	rig_settle(r);
	rig_assert_read(r, t, rig_due(r, 600));
	assert_int_equal(fake_nr_mapped(&r->fake), 512);
	assert_int_equal(fln_blockmap_uniform(&r->region.map, 1), 1 << FLN_PLANE_PRESENT);
	assert_int_equal(fln_blockmap_uniform(&r->region.map, 0), 0);
	rig_destroy(r);
}

static void a_fault_on_a_present_page_is_served_again(void **state)
{
	struct rig *r = filled((struct rig_opts){ .nr_pages = 64, .window = 1 });
	uint32_t t = rig_touch(r, 5);

	(void)state;
	rig_serve(r);
	rig_assert_read(r, t, rig_due(r, 5));
	for (uint32_t i = 1; i <= 5; i++) {
		assert_true(rig_map_says(r, FLN_PLANE_PRESENT, 5));
		fake_zap(&r->fake, rig_addr(r, 5), 1); /* behind our back */
		t = rig_touch(r, 5);
		rig_serve(r);
		rig_assert_read(r, t, rig_due(r, 5));
		assert_int_equal(rig_thread(r, t)->nr_faults, 1);
		assert_int_equal(COUNT(r, refaults), i);
	}
	fake_punch(&r->fake, rig_addr(r, 5), 1); /* and for good */
	t = rig_touch(r, 5);
	rig_serve(r);
	rig_assert_read(r, t, 0);
	assert_int_equal(COUNT(r, zero), 1);
	rig_destroy(r);
}

static void a_late_fault_on_a_mapped_page_is_woken(void **state)
{
	struct rig *r = filled((struct rig_opts){ .nr_pages = 64, .window = 1 });
	uint32_t t = rig_touch(r, 5);

	(void)state;
	fake_page(&r->fake, rig_addr(r, 5))->pte = FAKE_MAPPED; /* by one that did not wake */
	rig_serve(r);
	rig_assert_read(r, t, rig_due(r, 5));
	assert_int_equal(COUNT(r, pages_raced), 1);
	assert_int_equal(r->fake.nr_wake_calls, 1);
	rig_destroy(r);
}

static void without_a_chunk_one_page_is_served(void **state)
{
	struct rig *r = filled((struct rig_opts){ .nr_pages = 1024, .nr_chunks = 1 });
	uint32_t a = rig_touch(r, 0), b = rig_touch(r, 600), c = rig_touch(r, 610);

	(void)state;
	rig_serve(r);
	rig_assert_read(r, a, rig_due(r, 0));
	rig_assert_read(r, b, rig_due(r, 600));
	rig_assert_read(r, c, rig_due(r, 610));
	assert_int_equal(COUNT(r, no_chunk), 2);
	assert_int_equal(fake_nr_mapped(&r->fake), 16 + 2);
	rig_destroy(r);
}

/* The chunk of a block that has become whole comes back only when its readers have gone. */
static void a_refault_without_a_chunk_is_counted(void **state)
{
	struct rig *r =
		filled((struct rig_opts){ .nr_pages = 1024, .window = 512, .nr_chunks = 1 });
	uint32_t t;

	(void)state;
	fln_rcu_read_lock();
	t = rig_touch(r, 37);
	rig_settle(r);
	rig_assert_read(r, t, rig_due(r, 37));
	assert_int_equal(fln_blockmap_uniform(&r->region.map, 0), 1 << FLN_PLANE_PRESENT);
	fake_zap(&r->fake, rig_addr(r, 5), 1); /* behind our back */
	t = rig_touch(r, 5);
	rig_serve(r);
	rig_assert_read(r, t, rig_due(r, 5));
	assert_int_equal(COUNT(r, no_chunk), 1);
	assert_int_equal(COUNT(r, refaults), 1);
	fln_rcu_read_unlock();
	rig_destroy(r);
}

static void partial_progress(void **state)
{
	struct rig *r = filled((struct rig_opts){ .nr_pages = 64 });
	uint32_t t[16];

	(void)state;
	r->fake.max_pages = 3;
	for (uint32_t i = 0; i < 16; i++)
		t[i] = rig_touch(r, i);
	rig_serve(r);
	for (uint32_t i = 0; i < 16; i++) {
		rig_assert_read(r, t[i], rig_due(r, i));
		assert_int_equal(rig_thread(r, t[i])->nr_faults, 1);
	}
	assert_int_equal(r->fake.nr_calls[FAKE_CONTINUE], 6);
	rig_destroy(r);
}

static void out_of_memory_is_tried_again(void **state)
{
	struct rig *r = filled((struct rig_opts){ .nr_pages = 64 });
	uint32_t t = rig_touch(r, 9);

	(void)state;
	r->fake.fail_in = 1;
	r->fake.fail_errno = ENOMEM;
	rig_serve(r);
	assert_int_equal(r->worker.nr_held, 1);
	assert_int_equal(r->worker.nr_again, 0); /* not at once */
	rig_check_accounts(r);
	rig_pass_time(r, FLN_NS_PER_S);
	rig_held(r);
	rig_assert_read(r, t, rig_due(r, 9));
	assert_int_equal(COUNT(r, minor), 1); /* nothing had to be fetched */
	rig_destroy(r);
}

static void a_page_that_the_kernel_refuses_is_poisoned(void **state)
{
	struct rig *r = filled((struct rig_opts){ .nr_pages = 64, .window = 1 });
	uint32_t t = rig_touch(r, 9);

	(void)state;
	r->fake.fail_in = 1;
	r->fake.fail_errno = EINVAL;
	rig_serve(r);
	rig_assert_killed(r, t);
	assert_int_equal(COUNT(r, poisoned), 1);
	assert_non_null(strstr(r->last_line, "poisoned"));
	assert_true(rig_map_says(r, FLN_PLANE_POISONED, 9));
	rig_destroy(r);
}

static void addresses_of_nobody(void **state)
{
	struct rig *r = filled((struct rig_opts){ .nr_pages = 64, .spare_pages = 64 });
	uint32_t before = r->nr_log_lines, t, ours;

	(void)state;
	fake_map(&r->fake, rig_addr(r, 64), 8, r->image.memfd, 0); /* nobody told us */
	t = fake_touch(&r->fake, rig_addr(r, 66));
	ours = rig_touch(r, 63);
	fln_serve_shard(&r->worker, &r->shard);
	assert_int_equal(rig_thread(r, t)->state, FAKE_WOKEN); /* never a hang */
	assert_int_equal(COUNT(r, invalid), 1);
	assert_int_equal(COUNT(r, failed), 1);
	assert_int_equal(r->nr_log_lines, before + 1); /* never silent */
	assert_non_null(strstr(r->last_line, "0x7000000"));
	r->fake.pages[66].vma = false;
	fake_run(&r->fake);
	rig_assert_killed(r, t);
	rig_assert_read(r, ours, rig_due(r, 63));
	rig_destroy(r);
}

/* Before its event is there, or where nobody is told. */
static void a_page_that_has_gone(void **state)
{
	struct rig *r = filled((struct rig_opts){ .nr_pages = 64 });
	uint32_t t = rig_touch(r, 5);

	(void)state;
	fake_page(&r->fake, rig_addr(r, 5))->vma = false;
	rig_serve(r);
	rig_assert_killed(r, t); /* it was woken to find that out */
	assert_int_equal(COUNT(r, failed), 1);
	assert_int_equal(fake_nr_mapped(&r->fake), 15); /* its window was not lost for that */
	rig_destroy(r);
}

static void a_region_that_closes_is_left_alone(void **state)
{
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 64, .window = 1 });
	uint32_t held = rig_touch(r, 1), due, there;

	(void)state;
	rig_put(r, 2, 1);
	rig_serve(r);
	atomic_store(&r->region.closing, true);
	due = rig_touch(r, 3);
	there = rig_touch(r, 2);
	rig_serve(r);
	rig_held(r);
	/* Nobody is woken and nothing mapped: the closer does both. */
	assert_int_equal(rig_thread(r, held)->state, FAKE_WAITING);
	assert_int_equal(rig_thread(r, due)->state, FAKE_WAITING);
	assert_int_equal(rig_thread(r, there)->state, FAKE_WAITING);
	assert_int_equal(fake_nr_installs(&r->fake), 0);
	assert_int_equal(r->worker.nr_held, 0);
	assert_int_equal(COUNT(r, poisoned), 2);
	assert_int_equal(COUNT(r, resumed), 1);
	rig_destroy(r);
}

static void closing_denies_what_is_due(void **state)
{
	struct rig *r =
		rig_of((struct rig_opts){ .nr_pages = 700, .lead_pages = 100, .window = 1 });
	uint32_t waits = rig_touch(r, 1), there, zero;

	(void)state;
	rig_put(r, 600, 10);
	fln_image_give_up(&r->image, 650, 5);
	there = rig_touch(r, 605);
	rig_serve(r);
	rig_assert_read(r, there, rig_due(r, 605));
	fake_page(&r->fake, rig_addr(r, 30))->vma = false; /* a page has gone, unbeknown */
	r->shard.worker = NULL; /* as of a guest that does not run: ours has no thread */
	fln_region_close(&r->region);
	fln_region_close(&r->region); /* once */
	fake_run(&r->fake);
	rig_assert_killed(r, waits);
	for (uint64_t p = 0; p < 700; p++) {
		bool readable = (p >= 600 && p < 610) || (p >= 650 && p < 655);

		if (p != 30) /* I6 */
			assert_int_equal(fake_page(&r->fake, rig_addr(r, p))->denied, !readable);
	}
	/* By the run: before the page that has gone, after it, and after each filled part. */
	assert_int_equal(r->fake.nr_denied, 4);
	zero = rig_touch(r, 652);
	assert_int_equal(rig_thread(r, zero)->state, FAKE_QUEUED); /* the kernel's own zeros */
	rig_destroy(r);
}

static void a_read_that_fails_is_told(void **state)
{
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 64 });

	(void)state;
	r->fake.read_errno = EIO;
	rig_serve(r);
	assert_int_equal(r->nr_log_lines, 1);
	assert_int_equal(COUNT(r, reads), 0);
	rig_destroy(r);
}

/* What is left of the windows of one block, of several rounds: all of it is mapped later, and no more. */
static void rests_of_windows_add_up(void **state)
{
	struct rig *r = rig_create(&(struct rig_opts){ .nr_pages = 1024, .window = 128 });
	uint32_t t[3];

	(void)state;
	rig_put(r, 0, 1024);
	t[0] = rig_touch(r, 3);
	fln_serve_shard(&r->worker, &r->shard);
	assert_int_equal(fake_nr_mapped(&r->fake), 16);
	t[1] = rig_touch(r, 300);
	fln_serve_shard(&r->worker, &r->shard);
	t[2] = rig_touch(r, 700);
	fln_serve_shard(&r->worker, &r->shard);
	assert_int_equal(fake_nr_mapped(&r->fake), 3 * 16);
	assert_int_equal(r->worker.nr_later, 2); /* by block */
	fln_serve_later(&r->worker, UINT32_MAX);
	assert_int_equal(r->worker.nr_later, 0);
	assert_int_equal(fake_nr_mapped(&r->fake), 3 * 128);
	for (uint32_t p = 0; p < 1024; p++) {
		bool due = p < 128 || (p >= 256 && p < 384) || (p >= 640 && p < 768);

		assert_int_equal(fake_page(&r->fake, rig_addr(r, p))->pte == FAKE_MAPPED, due);
	}
	fake_run(&r->fake);
	rig_assert_read(r, t[0], rig_due(r, 3));
	rig_assert_read(r, t[1], rig_due(r, 300));
	rig_assert_read(r, t[2], rig_due(r, 700));
	rig_destroy(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_exactly_full_batch),
		cmocka_unit_test(duplicates_are_installed_once),
		cmocka_unit_test(windows_map_neighbours),
		cmocka_unit_test(windows_end_where_the_region_ends),
		cmocka_unit_test(a_window_ends_at_its_block),
		cmocka_unit_test(a_fault_on_a_present_page_is_served_again),
		cmocka_unit_test(a_late_fault_on_a_mapped_page_is_woken),
		cmocka_unit_test(without_a_chunk_one_page_is_served),
		cmocka_unit_test(a_refault_without_a_chunk_is_counted),
		cmocka_unit_test(partial_progress),
		cmocka_unit_test(out_of_memory_is_tried_again),
		cmocka_unit_test(a_page_that_the_kernel_refuses_is_poisoned),
		cmocka_unit_test(addresses_of_nobody),
		cmocka_unit_test(a_page_that_has_gone),
		cmocka_unit_test(a_region_that_closes_is_left_alone),
		cmocka_unit_test(closing_denies_what_is_due),
		cmocka_unit_test(a_read_that_fails_is_told),
		cmocka_unit_test(rests_of_windows_add_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
