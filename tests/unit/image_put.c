/* SPDX-License-Identifier: MIT */
/* fln_image_put() over pages that are being filled: nothing that was pushed is lost. */
#include "sources/image.h"
#include "sources/image_discard.h"
#include "sources/image_state.h"
#include "sources/image_want.h"
#include "sources/reading.h"

#include "tests/support/cm.h"
#include "tests/support/rig.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>

#define WAITER 3u
#define PUSHED UINT64_C(0x7075736865640000)
#define BYTES(pages) ((uint64_t)(pages)*FLN_PAGE_BYTES)

static struct rig *rig(uint32_t nr_pages, uint32_t fill_pages)
{
	return rig_create(&(struct rig_opts){ .nr_pages = nr_pages, .fill_pages = fill_pages });
}

/* Contents that are not the source's. */
static void push(struct rig *r, uint64_t page, uint64_t nr_pages)
{
	uint64_t words[FLN_PAGE_BYTES / 8];

	for (uint64_t p = page; p < page + nr_pages; p++) {
		for (uint32_t i = 0; i < FLN_PAGE_BYTES / 8; i++)
			words[i] = PUSHED + p;
		assert_int_equal(fln_image_put(&r->image, BYTES(p), words, BYTES(1)), 0);
	}
}

static uint64_t contents(struct rig *r, uint64_t page)
{
	return fake_contents(&(struct fake_page){ .fd = r->image.memfd, .file_page = page });
}

static bool cached(struct rig *r, uint64_t page)
{
	return fake_in_cache(&(struct fake_page){ .fd = r->image.memfd, .file_page = page });
}

static void assert_state(struct rig *r, uint64_t page, enum fln_image_page state)
{
	assert_int_equal(fln_image_state(&r->image, page), state);
}

static void assert_pushed(struct rig *r, uint64_t page)
{
	assert_state(r, page, FLN_IMAGE_FILLED);
	assert_int_equal(contents(r, page), PUSHED + page);
}

static void assert_read(struct rig *r, uint64_t page)
{
	assert_state(r, page, FLN_IMAGE_FILLED);
	assert_int_equal(contents(r, page), rig_word(page));
}

static void a_push_takes_over_what_was_not_begun(void **state)
{
	struct rig *r = rig(64, 8);

	(void)state;
	assert_int_equal(fln_image_request(&r->image, 2, WAITER), FLN_IMAGE_IS_PENDING);
	push(r, 2, 2);
	assert_pushed(r, 2);
	assert_pushed(r, 3);
	assert_int_equal(r->kicked, 1u << WAITER); /* the waiter for the fill */
	assert_state(r, 4, FLN_IMAGE_FILLING);
	assert_int_equal(rig_fill(r, 1), 1);
	for (uint64_t p = 0; p < 8; p++) {
		if (p == 2 || p == 3)
			assert_pushed(r, p);
		else
			assert_read(r, p);
	}
	assert_int_equal(fln_image_filled_bytes(&r->image), BYTES(8));
	rig_destroy(r);
}

static void push_4(struct rig *r, uint64_t page)
{
	(void)page;
	push(r, 4, 1);
	assert_pushed(r, 4);
}

static void a_push_by_the_source_itself(void **state)
{
	struct rig *r = rig(64, 8);

	(void)state;
	r->in_read = push_4;
	assert_int_equal(fln_image_request(&r->image, 2, WAITER), FLN_IMAGE_IS_PENDING);
	assert_int_equal(rig_fill(r, 1), 1);
	assert_pushed(r, 4);
	assert_read(r, 3);
	assert_read(r, 5);
	rig_destroy(r);
}

static void a_read_that_fails_takes_nothing_away(void **state)
{
	struct rig *r = rig(64, 8);

	(void)state;
	r->bad[3] = r->bad[4] = true;
	r->in_read = push_4;
	assert_int_equal(fln_image_request(&r->image, 2, WAITER), FLN_IMAGE_IS_PENDING);
	assert_int_equal(rig_fill(r, 1), 1);
	assert_state(r, 3, FLN_IMAGE_FAILED);
	assert_pushed(r, 4);
	assert_read(r, 5);
	push(r, 3, 1);
	assert_pushed(r, 3);
	rig_destroy(r);
}

static void a_block_that_was_taken_over_whole(void **state)
{
	struct rig *r = rig(1024, 512);

	(void)state;
	assert_int_equal(fln_image_request(&r->image, 7, WAITER), FLN_IMAGE_IS_PENDING);
	push(r, 0, 512);
	assert_true(fln_blockmap_uniform(&r->image.map, 0) > 0);
	assert_int_equal(rig_fill(r, 1), 1);
	assert_true(fln_blockmap_uniform(&r->image.map, 0) > 0);
	assert_pushed(r, 0);
	assert_pushed(r, 511);
	rig_destroy(r);
}

static void what_was_given_up_is_not_taken_over(void **state)
{
	struct rig *r = rig(64, 8);

	(void)state;
	assert_int_equal(fln_image_request(&r->image, 2, WAITER), FLN_IMAGE_IS_PENDING);
	fln_image_give_up(&r->image, 3, 1);
	push(r, 0, 8);
	assert_int_equal(rig_fill(r, 1), 1);
	assert_state(r, 3, FLN_IMAGE_ZERO);
	assert_false(cached(r, 3));
	assert_pushed(r, 2);
	assert_pushed(r, 4);
	/* And what was taken over can be given up like any other. */
	assert_int_equal(fln_image_discard(&r->image, BYTES(4), BYTES(1)), 0);
	assert_state(r, 4, FLN_IMAGE_ZERO);
	rig_destroy(r);
}

static void a_page_that_failed_and_is_tried_again_beside_its_fill(struct rig *r, uint64_t page)
{
	/* Page by page, after the first attempt: 3 has failed by now, and is fetched anew. */
	if (page != 5 || r->nr_reads[3] != 2)
		return;
	assert_state(r, 3, FLN_IMAGE_FAILED);
	r->in_read = NULL;
	r->bad[3] = false;
	assert_int_equal(fln_image_fill(&r->image, BYTES(3), BYTES(1)), 0);
	assert_read(r, 3);
}

static void a_second_fill_of_a_page_that_failed(void **state)
{
	struct rig *r = rig(64, 8);

	(void)state;
	r->bad[3] = true;
	r->in_read = a_page_that_failed_and_is_tried_again_beside_its_fill;
	assert_int_equal(fln_image_request(&r->image, 2, WAITER), FLN_IMAGE_IS_PENDING);
	assert_int_equal(rig_fill(r, 1), 1);
	assert_null(r->in_read);
	for (uint64_t p = 0; p < 8; p++)
		assert_read(r, p);
	rig_destroy(r);
}

static void a_buffer_that_cannot_be_read(void **state)
{
	struct rig *r = rig(64, 8);
	char *buf =
		mmap(NULL, BYTES(4), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)state;
	assert_ptr_not_equal(buf, MAP_FAILED);
	memset(buf, 7, BYTES(4));
	assert_int_equal(mprotect(buf + BYTES(2), BYTES(2), PROT_NONE), 0);
	assert_int_equal(fln_image_put(&r->image, 0, buf, BYTES(4)), -EFAULT);
	assert_non_null(strstr(fln_last_error(), "buffer"));
	for (uint64_t p = 0; p < 4; p++) {
		assert_state(r, p, FLN_IMAGE_UNFILLED);
		assert_false(cached(r, p));
	}
	push(r, 0, 4);
	assert_pushed(r, 3);
	assert_int_equal(munmap(buf, BYTES(4)), 0);
	rig_destroy(r);
}

struct pusher {
	struct rig *rig;
	_Atomic bool done;
};

static void *push_0(void *arg)
{
	struct pusher *p = arg;

	push(p->rig, 0, 1);
	atomic_store(&p->done, true);
	return NULL;
}

static void *fill_all(void *arg)
{
	bool entered = fln_rcu_enter();

	assert_int_equal(rig_fill(arg, UINT32_MAX), 1);
	fln_rcu_leave(entered);
	return NULL;
}

static void a_page_that_is_being_written_is_waited_for(void **state)
{
	struct pusher p = { .rig = rig(64, 1) };
	struct rig *r = p.rig;
	pthread_t filler, pusher;

	(void)state;
	assert_int_equal(fln_image_request(&r->image, 0, WAITER), FLN_IMAGE_IS_PENDING);
	/* A reader of events keeps the fill from publishing what it has written. */
	fln_filler_reading_begin(&r->filler, 9);
	assert_int_equal(pthread_create(&filler, NULL, fill_all, r), 0);
	while (!cached(r, 0))
		(void)sched_yield();
	assert_int_equal(pthread_create(&pusher, NULL, push_0, &p), 0);
	for (int i = 0; i < 2000; i++)
		(void)sched_yield();
	assert_false(atomic_load(&p.done));
	assert_state(r, 0, FLN_IMAGE_FILLING);
	fln_filler_reading_end(&r->filler, 9);
	assert_int_equal(pthread_join(filler, NULL), 0);
	assert_int_equal(pthread_join(pusher, NULL), 0);
	assert_read(r, 0); /* it was first */
	rig_destroy(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_push_takes_over_what_was_not_begun),
		cmocka_unit_test(a_push_by_the_source_itself),
		cmocka_unit_test(a_read_that_fails_takes_nothing_away),
		cmocka_unit_test(a_block_that_was_taken_over_whole),
		cmocka_unit_test(what_was_given_up_is_not_taken_over),
		cmocka_unit_test(a_second_fill_of_a_page_that_failed),
		cmocka_unit_test(a_buffer_that_cannot_be_read),
		cmocka_unit_test(a_page_that_is_being_written_is_waited_for),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
