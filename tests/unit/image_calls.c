/* SPDX-License-Identifier: MIT */
/*
 * An image whose system calls fail, or are interrupted by what others do: what was written is
 * taken back, what was given up stays so, and the caller is told.
 */
#include "sources/huge.h"
#include "sources/image_cache.h"
#include "sources/image_discard.h"
#include "sources/image_state.h"
#include "sources/image_want.h"

#include "tests/support/cm.h"
#include "tests/support/rig.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#define WAITER 3u
#define BYTES(pages) ((uint64_t)(pages)*FLN_PAGE_BYTES)

/* Of one case. */
static struct rig *rig_now;
static int64_t fail_at_page; /* a write that begins there fails; -1: none */
static bool fail_from_then;  /* and all after it */
static bool failing;
static int fail_errno, punch_errno;
static uint32_t nr_copies_to_fail;
static void (*in_write)(struct rig *r);

ssize_t __real_pwrite64(int fd, const void *buf, size_t len, off_t at);
ssize_t __wrap_pwrite64(int fd, const void *buf, size_t len, off_t at);
int __real_fallocate64(int fd, int mode, off_t at, off_t len);
int __wrap_fallocate64(int fd, int mode, off_t at, off_t len);
ssize_t __real_process_vm_writev(pid_t pid, const struct iovec *local, unsigned long nr_local,
				 const struct iovec *remote, unsigned long nr_remote,
				 unsigned long flags);
ssize_t __wrap_process_vm_writev(pid_t pid, const struct iovec *local, unsigned long nr_local,
				 const struct iovec *remote, unsigned long nr_remote,
				 unsigned long flags);

ssize_t __wrap_pwrite64(int fd, const void *buf, size_t len, off_t at)
{
	void (*fn)(struct rig * r) = in_write;

	if (failing ||
	    (fail_at_page >= 0 && (int64_t)at == fail_at_page * (int64_t)FLN_PAGE_BYTES)) {
		failing = fail_from_then;
		errno = fail_errno;
		return -1;
	}
	in_write = NULL;
	if (fn)
		fn(rig_now);
	return __real_pwrite64(fd, buf, len, at);
}

int __wrap_fallocate64(int fd, int mode, off_t at, off_t len)
{
	if (punch_errno) {
		errno = punch_errno;
		return -1;
	}
	return __real_fallocate64(fd, mode, at, len);
}

/* A page that somebody punches out during a copy: the copy faults. */
ssize_t __wrap_process_vm_writev(pid_t pid, const struct iovec *local, unsigned long nr_local,
				 const struct iovec *remote, unsigned long nr_remote,
				 unsigned long flags)
{
	if (nr_copies_to_fail > 0) {
		nr_copies_to_fail--;
		errno = EFAULT;
		return -1;
	}
	return __real_process_vm_writev(pid, local, nr_local, remote, nr_remote, flags);
}

static struct rig *rig(uint32_t nr_pages, uint32_t fill_pages)
{
	fail_at_page = -1;
	fail_from_then = failing = false;
	punch_errno = 0;
	nr_copies_to_fail = 0;
	in_write = NULL;
	rig_now = rig_create(&(struct rig_opts){ .nr_pages = nr_pages, .fill_pages = fill_pages });
	return rig_now;
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

static void put(struct rig *r, uint64_t page)
{
	uint64_t words[FLN_PAGE_BYTES / 8];

	for (uint32_t i = 0; i < FLN_PAGE_BYTES / 8; i++)
		words[i] = 7;
	assert_int_equal(fln_image_put(&r->image, BYTES(page), words, BYTES(1)), 0);
}

static void push_4(struct rig *r, uint64_t page)
{
	if (page == 0)
		put(r, 4);
}

/* A fill is written in two runs, and the second fails: the first may not stay behind. */
static void what_a_failed_write_left_is_taken_back(void **state)
{
	struct rig *r = rig(64, 8);

	(void)state;
	r->in_read = push_4;
	fail_at_page = 5;
	fail_from_then = true;
	fail_errno = ENOSPC;
	assert_int_equal(fln_image_request(&r->image, 0, WAITER), FLN_IMAGE_IS_PENDING);
	assert_int_equal(rig_fill(r, 1), 1);
	assert_state(r, 0, FLN_IMAGE_UNFILLED);
	for (uint64_t page = 0; page < 4; page++)
		assert_false(cached(r, page));
	assert_int_equal(contents(r, 4), 7);
	fail_at_page = -1;
	failing = false;
	/* MADV_DONTNEED takes nothing out of the cache: zeros are due there. */
	fln_image_give_up(&r->image, 0, 1);
	assert_state(r, 0, FLN_IMAGE_ZERO);
	assert_false(cached(r, 0));
	rig_destroy(r);
}

static void give_up_3(struct rig *r)
{
	fln_image_give_up(&r->image, 3, 1);
	/* The write cannot be called back. */
	assert_state(r, 3, FLN_IMAGE_FILLING);
}

static void given_up_while_it_is_written(void **state)
{
	struct rig *r = rig(64, 8);

	(void)state;
	in_write = give_up_3;
	assert_int_equal(fln_image_request(&r->image, 0, WAITER), FLN_IMAGE_IS_PENDING);
	assert_int_equal(rig_fill(r, 1), 1);
	assert_state(r, 2, FLN_IMAGE_FILLED);
	assert_state(r, 3, FLN_IMAGE_ZERO);
	assert_false(cached(r, 3));
	rig_destroy(r);
}

static void give_up_and_look(struct rig *r, uint64_t page)
{
	if (page != 0)
		return;
	r->kicked = 0;
	assert_int_equal(fln_image_discard(&r->image, BYTES(3), BYTES(1)), 0);
	assert_state(r, 3, FLN_IMAGE_ZERO); /* however long the source takes from here on */
	assert_int_equal(fln_image_request(&r->image, 3, WAITER), FLN_IMAGE_IS_READY);
	assert_int_equal(r->kicked, 1u << WAITER);
	assert_state(r, 2, FLN_IMAGE_FILLING);
}

static void given_up_while_it_is_read(void **state)
{
	struct rig *r = rig(64, 8);

	(void)state;
	r->in_read = give_up_and_look;
	assert_int_equal(fln_image_request(&r->image, 3, WAITER), FLN_IMAGE_IS_PENDING);
	assert_int_equal(rig_fill(r, 1), 1);
	assert_state(r, 2, FLN_IMAGE_FILLED);
	assert_state(r, 3, FLN_IMAGE_ZERO);
	assert_false(cached(r, 3));
	rig_destroy(r);
}

static void give_all_up(struct rig *r, uint64_t page)
{
	if (page == 0)
		fln_image_give_up(&r->image, 0, 512);
}

/* The block is whole then, and its chunk goes back although the fill brings nothing. */
static void given_up_as_a_whole_while_it_is_read(void **state)
{
	struct rig *r = rig(512, 8);

	(void)state;
	r->in_read = give_all_up;
	assert_int_equal(fln_image_request(&r->image, 3, WAITER), FLN_IMAGE_IS_PENDING);
	assert_int_equal(rig_fill(r, 1), 1);
	assert_true(fln_blockmap_uniform(&r->image.map, 0) > 0);
	assert_int_equal(fln_image_filled_bytes(&r->image), BYTES(512));
	assert_false(cached(r, 3));
	rig_destroy(r);
}

static void a_punch_that_fails_is_told(void **state)
{
	struct rig *r = rig(512, 8);

	(void)state;
	rig_put(r, 5, 1);
	punch_errno = EIO;
	assert_int_equal(fln_image_discard(&r->image, BYTES(5), BYTES(1)), -EIO);
	/* A huge page is punched by a call of its own. */
	r->image.page_bytes = FLN_BLOCK_BYTES;
	assert_int_equal(fln_image_punch(&r->image, 0, 512), -EIO);
	punch_errno = 0;
	assert_int_equal(fln_image_punch(&r->image, 0, 512), 0);
	r->image.page_bytes = FLN_PAGE_BYTES;
	rig_destroy(r);
}

static void ask_for_0_again(struct rig *r, uint64_t page)
{
	struct fln_image_want want = { .retry = true };

	if (page == 5 && fln_image_state(&r->image, 0) == FLN_IMAGE_FAILED)
		assert_int_equal(fln_image_want(&r->image, 0, WAITER, &want), FLN_IMAGE_IS_PENDING);
}

/* What a fill has published is nothing of its own any more: others may have begun with it. */
static void a_page_that_was_published_stays_with_its_new_fill(void **state)
{
	struct rig *r = rig(64, 8);

	(void)state;
	r->bad[0] = true;
	r->in_read = ask_for_0_again;
	fail_at_page = 5;
	fail_errno = ENOSPC;
	assert_int_equal(fln_image_request(&r->image, 1, WAITER), FLN_IMAGE_IS_PENDING);
	assert_int_equal(rig_fill(r, 1), 1);
	assert_state(r, 1, FLN_IMAGE_FILLED);
	assert_state(r, 5, FLN_IMAGE_UNFILLED); /* put off */
	assert_state(r, 0, FLN_IMAGE_FILLING);
	r->bad[0] = false;
	assert_int_equal(rig_fill(r, UINT32_MAX), 1);
	assert_state(r, 0, FLN_IMAGE_FILLED);
	rig_destroy(r);
}

/* As hugetlb would have it, with pages of shmem: the calls are the same. */
static void a_huge_page_that_is_punched_out_is_copied_again(void **state)
{
	static _Alignas(4096) char buf[FLN_PAGE_BYTES];
	struct rig *r = rig(512, 8);

	(void)state;
	memset(buf, 9, sizeof(buf));
	r->image.page_bytes = FLN_BLOCK_BYTES;
	nr_copies_to_fail = 2;
	assert_int_equal(fln_huge_write(&r->image, 5, buf, 1), 0);
	assert_memory_equal(r->image.alias + BYTES(5), buf, sizeof(buf));
	nr_copies_to_fail = UINT32_MAX;
	assert_int_equal(fln_huge_write(&r->image, 6, buf, 1), -EFAULT);
	nr_copies_to_fail = 0;
	r->image.page_bytes = FLN_PAGE_BYTES;
	rig_destroy(r);
}

static uint32_t nr_free_fills(struct rig *r)
{
	uint32_t nr;

	fln_lock(&r->filler.lock);
	nr = r->filler.nr_free + r->filler.nr_free_background;
	fln_unlock(&r->filler.lock);
	return nr;
}

static void *request_main(void *arg)
{
	struct rig *r = arg;
	bool entered = fln_rcu_enter();
	enum fln_image_request answer = fln_image_request(&r->image, 9, WAITER);

	fln_rcu_leave(entered);
	return (void *)(uintptr_t)answer;
}

/* It has taken a fill, and before it has the lock its page is there. */
/* All fills are free when it begins. */
static void *wait_until_one_is_taken(void *rig)
{
	struct rig *r = rig;

	while (nr_free_fills(r) == r->filler.opts.nr_fills)
		(void)sched_yield();
	return NULL;
}

static void a_fill_that_is_not_needed_any_more_goes_back(void **state)
{
	struct rig *r = rig(64, 8);
	uint32_t before = nr_free_fills(r);
	struct fln_mask page = fln_mask_range(9, 10);
	struct fln_chunk *chunk;
	pthread_t thread, watcher;
	void *answer;

	(void)state;
	fln_rcu_read_lock();
	fln_lock(&r->image.lock);
	assert_int_equal(pthread_create(&thread, NULL, request_main, r), 0);
	fln_rcu_read_unlock();
	/* By a thread of its own: the pool's lock may not be taken under the image's. */
	assert_int_equal(pthread_create(&watcher, NULL, wait_until_one_is_taken, r), 0);
	assert_int_equal(pthread_join(watcher, NULL), 0);
	fln_rcu_read_lock();
	chunk = fln_image_chunk(&r->image, 0);
	fln_image_move(&r->image, chunk, &page, FLN_IMAGE_UNFILLED, FLN_IMAGE_FILLING);
	fln_image_move(&r->image, chunk, &page, FLN_IMAGE_FILLING, FLN_IMAGE_ZERO);
	fln_unlock(&r->image.lock);
	fln_rcu_read_unlock();
	assert_int_equal(pthread_join(thread, &answer), 0);
	assert_int_equal((uintptr_t)answer, FLN_IMAGE_IS_READY);
	assert_int_equal(nr_free_fills(r), before);
	rig_destroy(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_a_failed_write_left_is_taken_back),
		cmocka_unit_test(given_up_while_it_is_written),
		cmocka_unit_test(given_up_while_it_is_read),
		cmocka_unit_test(given_up_as_a_whole_while_it_is_read),
		cmocka_unit_test(a_punch_that_fails_is_told),
		cmocka_unit_test(a_page_that_was_published_stays_with_its_new_fill),
		cmocka_unit_test(a_huge_page_that_is_punched_out_is_copied_again),
		cmocka_unit_test(a_fill_that_is_not_needed_any_more_goes_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
