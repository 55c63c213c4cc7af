/* SPDX-License-Identifier: MIT */
/* A memfd that has bytes in it before its image is filled: they are never what is ZERO. */
#include "sources/image_state.h"
#include "tests/support/cm.h"
#include "tests/support/rig.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define OLD UINT64_C(0xaaaaaaaaaaaaaaaa)
#define NR_PAGES 1024u

static struct rig *with_old_bytes(struct rig_opts opts)
{
	char page[FLN_PAGE_BYTES];
	struct rig *r;

	opts.nr_pages = NR_PAGES;
	r = rig_create(&opts);
	memset(page, 0xaa, sizeof(page));
	for (uint64_t p = 0; p < NR_PAGES; p++)
		assert_int_equal(pwrite(r->image.memfd, page, sizeof(page),
					(off_t)fln_pages_to_bytes(p)),
				 (ssize_t)sizeof(page));
	return r;
}

static uint64_t word_in_cache(const struct rig *r, uint64_t page)
{
	uint64_t word = 1;

	assert_int_equal(pread(r->image.memfd, &word, sizeof(word),
			       (off_t)fln_pages_to_bytes(page)),
			 (ssize_t)sizeof(word));
	return word;
}

static void assert_reads(struct rig *r, uint64_t page, uint64_t value)
{
	uint32_t t = rig_touch(r, page);

	rig_settle(r);
	rig_assert_read(r, t, value);
}

static void holes(bool is_private)
{
	struct rig *r =
		with_old_bytes((struct rig_opts){ .fill_pages = 64, .is_private = is_private });

	for (uint64_t p = 0; p < NR_PAGES; p++)
		r->hole[p] = p % 7 == 3 || (p >= 200 && p < 600);
	for (uint64_t p = 0; p < NR_PAGES; p += 5)
		assert_reads(r, p, r->hole[p] ? 0 : rig_due(r, p));
	for (uint64_t p = 0; p < NR_PAGES; p++)
		assert_int_equal(word_in_cache(r, p), r->hole[p] ? 0 : rig_due(r, p));
	rig_destroy(r);
}

static void holes_of_a_source(void **state)
{
	(void)state;
	holes(false);
	holes(true);
}

/* Pages are given up before anybody has asked for them. */
static void what_was_given_up_unfilled(void **state)
{
	struct rig *r = with_old_bytes((struct rig_opts){ .window = 512 });

	(void)state;
	fake_discard(&r->fake, rig_addr(r, 3), 700, false);
	rig_serve(r);
	for (uint64_t p = 3; p < 703; p++) {
		assert_int_equal(fln_image_state(&r->image, p), FLN_IMAGE_ZERO);
		assert_int_equal(word_in_cache(r, p), 0);
	}
	assert_int_equal(word_in_cache(r, 2), OLD);
	assert_int_equal(word_in_cache(r, 703), OLD);
	assert_reads(r, 50, 0);
	assert_reads(r, 2, rig_due(r, 2));
	assert_reads(r, 703, rig_due(r, 703));
	assert_int_equal(rig_nr_queued_fills(r), 0);
	rig_destroy(r);
}

/* Next to pages that are filled, failed, and being filled. */
static void among_others(void **state)
{
	struct rig *r = with_old_bytes((struct rig_opts){ .nr_retries = 0 });
	uint32_t failed, filling;

	(void)state;
	rig_put(r, 10, 5);
	r->bad[20] = true;
	failed = rig_touch(r, 20);
	rig_settle(r);
	rig_assert_killed(r, failed);
	filling = rig_touch(r, 30);
	rig_serve(r);
	assert_int_equal(fln_image_state(&r->image, 30), FLN_IMAGE_FILLING);
	fake_discard(&r->fake, rig_addr(r, 5), 40, false);
	rig_serve(r);
	assert_int_equal(fln_image_state(&r->image, 12), FLN_IMAGE_FILLED);
	assert_int_equal(fln_image_state(&r->image, 20), FLN_IMAGE_ZERO);
	/* Its source has not answered, and is not waited for. */
	assert_int_equal(fln_image_state(&r->image, 30), FLN_IMAGE_ZERO);
	rig_settle(r);
	rig_assert_read(r, filling, 0);
	for (uint64_t p = 5; p < 45; p++)
		assert_int_equal(word_in_cache(r, p), p >= 10 && p < 15 ? rig_due(r, p) : 0);
	rig_destroy(r);
}

static void by_the_embedder(void **state)
{
	struct rig *r = with_old_bytes((struct rig_opts){ .pushed = true });

	(void)state;
	rig_put(r, 100, 50);
	assert_int_equal(fln_image_discard(&r->image, 90 * FLN_PAGE_BYTES, 500 * FLN_PAGE_BYTES),
			 0);
	for (uint64_t p = 90; p < 590; p++) {
		assert_int_equal(fln_image_state(&r->image, p), FLN_IMAGE_ZERO);
		assert_int_equal(word_in_cache(r, p), 0);
	}
	assert_reads(r, 95, 0);
	assert_reads(r, 120, 0);
	rig_destroy(r);
}

/* A whole block that is given up costs no chunk for good. */
static void a_block_is_zero_as_a_whole(void **state)
{
	struct rig *r = with_old_bytes((struct rig_opts){ .pushed = true });

	(void)state;
	fake_discard(&r->fake, rig_addr(r, 0), NR_PAGES, false);
	rig_serve(r);
	assert_int_equal(fln_blockmap_uniform(&r->image.map, 0), 1 << FLN_IMAGE_PLANE_ZERO);
	assert_int_equal(fln_blockmap_uniform(&r->image.map, 1), 1 << FLN_IMAGE_PLANE_ZERO);
	assert_reads(r, 7, 0);
	rig_destroy(r);
}

/* A page that cannot be emptied is not zero. */
static void a_page_that_cannot_be_emptied(void **state)
{
	struct rig *r = with_old_bytes((struct rig_opts){ .fill_pages = 4 });
	char path[32];
	uint32_t t;
	int fd;

	(void)state;
	r->hole[8] = true;
	/* A descriptor that may only read cannot punch. */
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", r->image.memfd);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(dup3(fd, r->image.memfd, O_CLOEXEC), r->image.memfd);
	(void)close(fd);
	t = rig_touch(r, 8);
	rig_settle(r);
	rig_assert_killed(r, t);
	assert_int_equal(word_in_cache(r, 8), OLD);
	rig_destroy(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(holes_of_a_source),
		cmocka_unit_test(what_was_given_up_unfilled),
		cmocka_unit_test(among_others),
		cmocka_unit_test(by_the_embedder),
		cmocka_unit_test(a_block_is_zero_as_a_whole),
		cmocka_unit_test(a_page_that_cannot_be_emptied),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
