/* SPDX-License-Identifier: MIT */
/*
 * CONTINUE stops at the first page that is present.  What it mapped before comes
 * back as mapped > 0 with EAGAIN, and that prefix is woken; without any progress
 * the answer is EEXIST, and nobody is woken.
 */
#include "platform.h"

int main(void)
{
	struct plt_toucher *first;
	struct plt_toucher *third;
	struct plt_toucher *last;
	int64_t mapped;
	uint8_t *mem;
	int fd;
	int uffd;

	plt_init();
	uffd = plt_uffd(UFFD_FEATURE_MINOR_SHMEM);
	fd = plt_memfd(8 * PLT_PAGE);
	plt_fill(fd, 0, 8, 0x11);
	mem = plt_map(fd, 8 * PLT_PAGE, MAP_SHARED);
	plt_register_need(uffd, mem, 8 * PLT_PAGE, PLT_BOTH, _UFFDIO_CONTINUE, "UFFDIO_CONTINUE");

	first = plt_touch_read(mem);
	plt_expect_fault(uffd, mem, true, "fault on page 0");
	third = plt_touch_read(mem + 3 * PLT_PAGE);
	plt_expect_fault(uffd, mem + 3 * PLT_PAGE, true, "fault on page 3");
	last = plt_touch_read(mem + 7 * PLT_PAGE);
	plt_expect_fault(uffd, mem + 7 * PLT_PAGE, true, "fault on page 7");
	plt_expect_err(plt_continue(uffd, mem + 3 * PLT_PAGE, PLT_PAGE,
				    UFFDIO_CONTINUE_MODE_DONTWAKE, NULL),
		       0, "CONTINUE of page 3");

	plt_expect_err(plt_continue(uffd, mem, 8 * PLT_PAGE, 0, &mapped), EAGAIN,
		       "CONTINUE of 8 pages, the fourth present");
	PLT_CHECK(mapped == 3 * (int64_t)PLT_PAGE, "expected mapped = 3 pages, saw %lld bytes",
		  (long long)mapped);
	plt_expect_value(first, 0x11, "the waiter within the mapped prefix");
	plt_expect_asleep(third, "the waiter on the present page");

	plt_expect_err(plt_continue(uffd, mem + 3 * PLT_PAGE, 5 * PLT_PAGE, 0, &mapped), EEXIST,
		       "CONTINUE that begins at a present page");
	PLT_CHECK(mapped <= 0, "expected no progress, saw mapped = %lld", (long long)mapped);
	plt_expect_asleep(third, "EEXIST wakes nobody: the waiter on the present page");
	plt_expect_asleep(last, "EEXIST wakes nobody: the waiter behind it");

	plt_expect_err(plt_wake(uffd, mem + 3 * PLT_PAGE, PLT_PAGE), 0, "WAKE of page 3");
	plt_expect_value(third, 0x11, "the waiter on the present page, after WAKE");
	plt_expect_err(plt_continue(uffd, mem + 4 * PLT_PAGE, 4 * PLT_PAGE, 0, &mapped), 0,
		       "CONTINUE of the rest");
	plt_expect_value(last, 0x11, "the last waiter");
	plt_pass();
}
