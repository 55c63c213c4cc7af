/* SPDX-License-Identifier: MIT */
/* Install calls: what each errno comes to, partial progress, and what is counted. */
#include "engine/uffd.h"
#include "base/page.h"
#include "engine/uffd_compat.h"
#include "engine/uffd_open.h"

#include "tests/support/cm.h"
#include "tests/support/fake_uffd.h"

#include <errno.h>
#include <faultlane/base.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define ADDR UINT64_C(0x600000000000)
#define NR 64u

struct fixture {
	struct fln_uffd u;
	struct fake_uffd fake;
	int fd;
	_Alignas(4096) unsigned char from[NR * FLN_PAGE_BYTES];
};

static struct fixture f;

static int setup(void **state)
{
	(void)state;
	memset(&f, 0, sizeof(f));
	f.fd = memfd_create("uffd", MFD_CLOEXEC);
	assert_true(f.fd >= 0);
	memset(f.from, 0x11, sizeof(f.from));
	assert_int_equal(ftruncate(f.fd, NR * (off_t)FLN_PAGE_BYTES), 0);
	assert_int_equal(pwrite(f.fd, f.from, sizeof(f.from), 0), sizeof(f.from));
	fake_init(&f.fake, &f.u, ADDR, 2 * NR);
	fake_map(&f.fake, ADDR, NR, f.fd, 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	fake_deinit(&f.fake);
	(void)close(f.fd);
	return 0;
}

static uint64_t addr(uint32_t page)
{
	return ADDR + fln_pages_to_bytes(page);
}

static enum fln_uffd_result do_continue(uint32_t page, uint32_t nr, uint32_t *done)
{
	uint64_t bytes = 99;
	enum fln_uffd_result result =
		fln_uffd_continue(&f.u, addr(page), fln_pages_to_bytes(nr), true, &bytes);

	*done = (uint32_t)fln_bytes_to_pages(bytes);
	return result;
}

static void every_errno_has_a_result(void **state)
{
	static const struct {
		int err;
		enum fln_uffd_result result;
	} table[] = {
		{ EEXIST, FLN_UFFD_PRESENT }, { EAGAIN, FLN_UFFD_AGAIN },
		{ EFAULT, FLN_UFFD_NO_PAGE }, { ENOENT, FLN_UFFD_GONE },
		{ ESRCH, FLN_UFFD_GONE },     { ENOMEM, FLN_UFFD_NO_MEMORY },
		{ EINVAL, FLN_UFFD_ERROR },   { EPERM, FLN_UFFD_ERROR },
		{ EBADF, FLN_UFFD_ERROR },
	};
	uint64_t done = 99, len = 4 * FLN_PAGE_BYTES;

	(void)state;
	for (uint32_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		f.fake.fail_errno = table[i].err;
		f.fake.fail_in = 1;
		f.fake.fail_times = FAKE_NR_CALLS;
		assert_int_equal(fln_uffd_continue(&f.u, addr(0), len, true, &done),
				 table[i].result);
		assert_int_equal(done, 0);
		assert_int_equal(fln_uffd_copy(&f.u, addr(0), f.from, len, true, &done),
				 table[i].result);
		assert_int_equal(fln_uffd_zeropage(&f.u, addr(0), len, true, &done),
				 table[i].result);
		assert_int_equal(fln_uffd_poison(&f.u, addr(0), len, &done), table[i].result);
		assert_int_equal(done, 0);
		assert_int_equal(f.fake.fail_in, 0);
	}
	assert_int_equal(fake_nr_mapped(&f.fake), 0);
}

static void results_have_names(void **state)
{
	(void)state;
	for (int i = 0; i < FLN_UFFD_NR_RESULTS; i++)
		assert_true(fln_uffd_result_name((enum fln_uffd_result)i)[0] != '\0');
}

static void a_range_in_one_call(void **state)
{
	uint32_t thread = fake_touch(&f.fake, addr(63)), done;

	(void)state;
	assert_int_equal(do_continue(0, NR, &done), FLN_UFFD_OK);
	assert_int_equal(done, NR);
	assert_int_equal(atomic_load(&f.u.nr_calls), 1);
	assert_int_equal(f.fake.threads[thread].state, FAKE_WOKEN);
	fake_run(&f.fake);
	assert_int_equal(f.fake.threads[thread].state, FAKE_READ);
	assert_int_equal(f.fake.threads[thread].value, UINT64_C(0x1111111111111111));
}

static void what_was_done_in_part_is_repeated(void **state)
{
	uint32_t done;

	(void)state;
	f.fake.max_pages = 3;
	assert_int_equal(do_continue(0, 8, &done), FLN_UFFD_OK);
	assert_int_equal(done, 8);
	assert_int_equal(atomic_load(&f.u.nr_calls), 3);
	assert_int_equal(fake_nr_mapped(&f.fake), 8);
}

static void it_stops_at_a_page_that_is_there(void **state)
{
	uint32_t before, at, behind, done;

	(void)state;
	assert_int_equal(do_continue(4, 1, &done), FLN_UFFD_OK);
	before = fake_touch(&f.fake, addr(3));
	at = fake_touch(&f.fake, addr(4));
	behind = fake_touch(&f.fake, addr(5));
	assert_int_equal(do_continue(0, 8, &done), FLN_UFFD_PRESENT);
	assert_int_equal(done, 4);
	assert_int_equal(f.fake.threads[before].state, FAKE_WOKEN);
	assert_int_equal(f.fake.threads[at].state, FAKE_READ); /* it was there already */
	assert_int_equal(f.fake.threads[behind].state, FAKE_QUEUED);
}

static void no_progress_wakes_nobody(void **state)
{
	uint32_t thread = fake_touch(&f.fake, addr(0)), done;

	(void)state;
	fake_page(&f.fake, addr(0))->pte = FAKE_MAPPED; /* by one that did not wake */
	assert_int_equal(do_continue(0, 4, &done), FLN_UFFD_PRESENT);
	assert_int_equal(f.fake.threads[thread].state, FAKE_QUEUED);
	fln_uffd_wake(&f.u, addr(0), FLN_PAGE_BYTES);
	assert_int_equal(f.fake.threads[thread].state, FAKE_WOKEN);
	assert_int_equal(atomic_load(&f.u.nr_wakes), 1);
}

static void dontwake(void **state)
{
	uint32_t thread = fake_touch(&f.fake, addr(0));
	uint64_t done;

	(void)state;
	assert_int_equal(fln_uffd_continue(&f.u, addr(0), FLN_PAGE_BYTES, false, &done),
			 FLN_UFFD_OK);
	assert_int_equal(done, FLN_PAGE_BYTES);
	assert_int_equal(f.fake.threads[thread].state, FAKE_QUEUED);
}

static void holes(void **state)
{
	uint64_t done;
	uint32_t pages;

	(void)state;
	fake_punch(&f.fake, addr(2), 1);
	assert_int_equal(do_continue(0, 4, &pages), FLN_UFFD_NO_PAGE);
	assert_int_equal(pages, 2);
	assert_int_equal(fln_uffd_zeropage(&f.u, addr(2), 2 * FLN_PAGE_BYTES, true, &done),
			 FLN_UFFD_PRESENT); /* the second is in the cache */
	assert_int_equal(done, FLN_PAGE_BYTES);
	assert_int_equal(fake_contents(fake_page(&f.fake, addr(2))), 0);
}

static void a_range_of_two_mappings_is_gone(void **state)
{
	uint32_t done;

	(void)state;
	assert_int_equal(do_continue(NR - 1, 2, &done), FLN_UFFD_GONE);
	assert_int_equal(done, 0);
	assert_int_equal(do_continue(NR - 1, 1, &done), FLN_UFFD_OK);
	assert_int_equal(do_continue(NR, 1, &done), FLN_UFFD_GONE);
}

static void an_event_puts_off(void **state)
{
	struct uffd_msg msgs[4];
	uint32_t done;

	(void)state;
	f.fake.again_after_read = 1;
	fake_discard(&f.fake, addr(0), 1, false);
	assert_int_equal(do_continue(0, 4, &done), FLN_UFFD_AGAIN);
	assert_int_equal(fln_uffd_read(&f.u, msgs, 4), 1);
	assert_int_equal(msgs[0].event, UFFD_EVENT_REMOVE);
	assert_int_equal(do_continue(0, 4, &done), FLN_UFFD_AGAIN);
	assert_int_equal(do_continue(0, 4, &done), FLN_UFFD_OK);
	fake_run(&f.fake); /* now the first page is taken away */
	assert_int_equal(fake_nr_mapped(&f.fake), 3);
}

static void faults_are_read_before_events(void **state)
{
	struct uffd_msg msgs[4];

	(void)state;
	fake_discard(&f.fake, addr(0), 1, false);
	(void)fake_touch(&f.fake, addr(7) + 123);
	assert_int_equal(fln_uffd_read(&f.u, msgs, 4), 2);
	assert_int_equal(msgs[0].event, UFFD_EVENT_PAGEFAULT);
	assert_int_equal(msgs[0].arg.pagefault.address, addr(7) + 123);
	assert_int_equal(msgs[0].arg.pagefault.flags, UFFD_PAGEFAULT_FLAG_MINOR);
	assert_int_equal(msgs[1].event, UFFD_EVENT_REMOVE);
	assert_int_equal(fln_uffd_read(&f.u, msgs, 4), 0);
}

static void copies_bring_contents(void **state)
{
	uint64_t done;

	(void)state;
	fake_map(&f.fake, addr(NR), 4, -1, 0);
	assert_int_equal(fln_uffd_copy(&f.u, addr(NR), f.from, 4 * FLN_PAGE_BYTES, true, &done),
			 FLN_UFFD_OK);
	assert_int_equal(done, 4 * FLN_PAGE_BYTES);
	assert_int_equal(fake_contents(fake_page(&f.fake, addr(NR + 3))),
			 UINT64_C(0x1111111111111111));
}

static void poison(void **state)
{
	uint32_t thread = fake_touch(&f.fake, addr(1)), pages;
	uint64_t done;

	(void)state;
	assert_true(fln_uffd_can_poison(&f.u));
	assert_int_equal(do_continue(2, 1, &pages), FLN_UFFD_OK);
	assert_int_equal(fln_uffd_poison(&f.u, addr(0), 4 * FLN_PAGE_BYTES, &done),
			 FLN_UFFD_PRESENT);
	assert_int_equal(done, 2 * FLN_PAGE_BYTES);
	fake_run(&f.fake);
	assert_int_equal(f.fake.threads[thread].state, FAKE_KILLED);
}

static void registration_and_closing(void **state)
{
	(void)state;
	f.u.range_ioctls = 0;
	assert_int_equal(fln_uffd_register(&f.u, addr(0), FLN_PAGE_BYTES,
					   UFFDIO_REGISTER_MODE_MISSING),
			 0);
	assert_true(fln_uffd_can_poison(&f.u));
	assert_int_equal(fln_uffd_unregister(&f.u, addr(0), FLN_PAGE_BYTES), 0);
	fln_uffd_close(&f.u);
	assert_true(f.fake.closed);
	assert_int_equal(f.u.fd, -1);
	fln_uffd_close(&f.u); /* a second time does nothing */
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

/* A kernel without minor faults on shmem is refused, and the remedy is named. */
static void old_kernels_are_refused(void **state)
{
	uint64_t enough = UFFD_FEATURE_MISSING_SHMEM | UFFD_FEATURE_MINOR_SHMEM;

	(void)state;
	assert_int_equal(fln_uffd_check_features(enough), 0);
	assert_int_equal(fln_uffd_check_features(enough | UFFD_FEATURE_POISON), 0);
	assert_int_equal(fln_uffd_check_features(UFFD_FEATURE_MISSING_SHMEM), -EOPNOTSUPP);
	assert_non_null(strstr(fln_last_error(), "0x20"));
	assert_non_null(strstr(fln_last_error(), "5.14"));
	assert_int_equal(fln_uffd_check_features(0), -EOPNOTSUPP);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(every_errno_has_a_result),
		TEST(results_have_names),
		TEST(a_range_in_one_call),
		TEST(what_was_done_in_part_is_repeated),
		TEST(it_stops_at_a_page_that_is_there),
		TEST(no_progress_wakes_nobody),
		TEST(dontwake),
		TEST(holes),
		TEST(a_range_of_two_mappings_is_gone),
		TEST(an_event_puts_off),
		TEST(faults_are_read_before_events),
		TEST(copies_bring_contents),
		TEST(poison),
		TEST(registration_and_closing),
		TEST(old_kernels_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
