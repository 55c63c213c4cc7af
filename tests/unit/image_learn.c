/* SPDX-License-Identifier: MIT */
/*
 * What an attached image learns from the process whose image it is, and how that
 * process's listeners are told: states and waiters, without a second process.
 */
#include "sources/image_discard.h"
#include "sources/image_state.h"
#include "sources/image_want.h"
#include "tests/support/cm.h"
#include "tests/support/rig.h"

#include <sys/eventfd.h>
#include <unistd.h>

#define WAITER 3u

static const struct fln_mask nothing;

static struct rig *rig(uint32_t nr_pages, uint32_t fill_pages)
{
	return rig_create(&(struct rig_opts){ .nr_pages = nr_pages, .fill_pages = fill_pages });
}

static void assert_state(struct rig *r, uint64_t page, enum fln_image_page state)
{
	assert_int_equal(fln_image_state(&r->image, page), state);
}

static bool cached(struct rig *r, uint64_t page)
{
	return fake_in_cache(&(struct fake_page){ .fd = r->image.memfd, .file_page = page });
}

static void pages_become_filled_and_zero(void **state)
{
	struct fln_mask filled = fln_mask_range(2, 5), zero = fln_mask_range(5, 7);
	struct rig *r = rig(700, 8);

	(void)state;
	fln_image_learn(&r->image, 0, &filled, &zero);
	assert_state(r, 1, FLN_IMAGE_UNFILLED);
	assert_state(r, 2, FLN_IMAGE_FILLED);
	assert_state(r, 4, FLN_IMAGE_FILLED);
	assert_state(r, 5, FLN_IMAGE_ZERO);
	assert_state(r, 7, FLN_IMAGE_UNFILLED);
	assert_int_equal(fln_image_filled_bytes(&r->image), 5 * FLN_PAGE_BYTES);
	/* Once more is no news, and ZERO does not become FILLED. */
	filled = fln_mask_range(2, 7);
	fln_image_learn(&r->image, 0, &filled, &nothing);
	assert_state(r, 5, FLN_IMAGE_ZERO);
	assert_int_equal(fln_image_filled_bytes(&r->image), 5 * FLN_PAGE_BYTES);
	rig_destroy(r);
}

static void a_block_collapses_when_all_of_it_is_known(void **state)
{
	struct fln_mask some = fln_mask_range(0, 100), all = fln_mask_range(0, 512),
			tail = fln_mask_range(0, 188);
	struct rig *r = rig(700, 8);

	(void)state;
	fln_image_learn(&r->image, 0, &some, &nothing);
	assert_int_equal(fln_blockmap_uniform(&r->image.map, 0), -1);
	fln_image_learn(&r->image, 0, &all, &nothing);
	assert_int_equal(fln_blockmap_uniform(&r->image.map, 0), 1 << FLN_IMAGE_PLANE_FILLED);
	/* The last one is no whole block. */
	fln_image_learn(&r->image, 1, &tail, &nothing);
	assert_int_equal(fln_blockmap_uniform(&r->image.map, 1), 1 << FLN_IMAGE_PLANE_FILLED);
	assert_int_equal(fln_image_filled_bytes(&r->image), 700 * FLN_PAGE_BYTES);
	fln_image_learn(&r->image, 0, &all, &nothing);
	assert_int_equal(fln_image_filled_bytes(&r->image), 700 * FLN_PAGE_BYTES);
	rig_destroy(r);
}

/* Pages of fills in flight are taken from them; waiters are told, of each fill. */
static void fills_in_flight_lose_what_is_known(void **state)
{
	struct fln_mask filled = fln_mask_range(3, 11);
	struct rig *r = rig(64, 8);

	(void)state;
	assert_int_equal(fln_image_request(&r->image, 1, WAITER), FLN_IMAGE_IS_PENDING);
	assert_int_equal(fln_image_request(&r->image, 9, 5), FLN_IMAGE_IS_PENDING);
	fln_image_learn(&r->image, 0, &filled, &nothing);
	assert_int_equal(r->nr_kicks, 1);
	assert_int_equal(r->kicked, 1u << WAITER | 1u << 5);
	assert_state(r, 2, FLN_IMAGE_FILLING);
	assert_state(r, 3, FLN_IMAGE_FILLED);
	assert_state(r, 10, FLN_IMAGE_FILLED);
	assert_state(r, 11, FLN_IMAGE_FILLING);
	/* What the fills bring for the rest is published, and of what was learnt nothing. */
	assert_int_equal(rig_fill(r, UINT32_MAX), 2);
	for (uint64_t page = 0; page < 16; page++) {
		assert_state(r, page, FLN_IMAGE_FILLED);
		assert_int_equal(cached(r, page), page < 3 || page > 10);
	}
	assert_int_equal(fln_image_filled_bytes(&r->image), 16 * FLN_PAGE_BYTES);
	rig_destroy(r);
}

/*
 * News of a block that is known already, as they come along with those of its
 * neighbours, and holes that are found in it meanwhile: whatever the order, and however
 * long the readers, there is a chunk for it.
 */
static void old_news_take_no_chunks(void **state)
{
	struct fln_mask all = fln_mask_range(0, 512);
	struct rig *r = rig(512, 8);

	(void)state;
	fln_rcu_read_lock();
	for (uint32_t i = 0; i < 64; i++) {
		fln_image_learn(&r->image, 0, &all, &nothing);
		fln_image_drop(&r->image, i, 1, true);
		assert_state(r, i, FLN_IMAGE_ZERO);
	}
	fln_rcu_read_unlock();
	assert_int_equal(fln_image_filled_bytes(&r->image), 512 * FLN_PAGE_BYTES);
	rig_destroy(r);
}

static void what_failed_can_be_learnt_later(void **state)
{
	struct fln_mask filled = fln_mask_range(4, 5);
	struct rig *r = rig(64, 1);

	(void)state;
	r->bad[4] = true;
	assert_int_equal(fln_image_request(&r->image, 4, WAITER), FLN_IMAGE_IS_PENDING);
	assert_int_equal(rig_fill(r, 1), 1);
	assert_state(r, 4, FLN_IMAGE_FAILED);
	fln_image_learn(&r->image, 0, &filled, &nothing);
	assert_state(r, 4, FLN_IMAGE_FILLED);
	rig_destroy(r);
}

static uint64_t rung(int event_fd)
{
	uint64_t count = 0;

	return read(event_fd, &count, sizeof(count)) == (ssize_t)sizeof(count) ? count : 0;
}

/* A listener is told once, by whatever changes a page, and only while it waits. */
static void a_listener_is_told_while_it_waits(void **state)
{
	struct fln_listener listener = { .event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) };
	struct fln_mask filled = fln_mask_range(20, 21);
	struct rig *r = rig(64, 1);

	(void)state;
	assert_true(listener.event_fd >= 0);
	r->image.listeners = &listener;
	rig_put(r, 1, 1);
	assert_int_equal(rung(listener.event_fd), 0);
	listener.waits = true;
	rig_put(r, 2, 1);
	rig_put(r, 3, 1);
	assert_int_equal(rung(listener.event_fd), 1);
	assert_false(listener.waits);
	listener.waits = true;
	fln_image_give_up(&r->image, 9, 1);
	assert_int_equal(rung(listener.event_fd), 1);
	listener.waits = true;
	fln_image_learn(&r->image, 0, &filled, &nothing);
	assert_int_equal(rung(listener.event_fd), 1);
	/* Of nobody, a request begins a fill all the same. */
	listener.waits = true;
	assert_int_equal(fln_image_request(&r->image, 30, FLN_NO_WAITER), FLN_IMAGE_IS_PENDING);
	assert_int_equal(rung(listener.event_fd), 0);
	assert_int_equal(rig_fill(r, 1), 1);
	assert_int_equal(rung(listener.event_fd), 1);
	assert_int_equal(r->nr_kicks, 0);
	r->image.listeners = NULL;
	(void)close(listener.event_fd);
	rig_destroy(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pages_become_filled_and_zero),
		cmocka_unit_test(a_block_collapses_when_all_of_it_is_known),
		cmocka_unit_test(fills_in_flight_lose_what_is_known),
		cmocka_unit_test(old_news_take_no_chunks),
		cmocka_unit_test(what_failed_can_be_learnt_later),
		cmocka_unit_test(a_listener_is_told_while_it_waits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
