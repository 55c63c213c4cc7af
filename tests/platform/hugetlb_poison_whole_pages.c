/* SPDX-License-Identifier: MIT */
/*
 * POISON takes whole huge pages, wakes into SIGBUS, leaves mapped ones alone, and
 * survives the end of the userfaultfd.
 */
#include "hugetlb.h"

int main(void)
{
	struct plt_toucher *t;
	uint8_t *mem;
	int fd, uffd;

	hugetlb_init(4);
	uffd = plt_uffd(HUGETLB_FEATURES | UFFD_FEATURE_POISON);
	fd = hugetlb_memfd(4);
	hugetlb_allocate(fd, 0);
	hugetlb_allocate(fd, 1);
	mem = plt_map(fd, 4 * PLT_BLOCK, MAP_SHARED | MAP_NORESERVE);
	plt_poisonable(uffd, mem, 4 * PLT_BLOCK, PLT_BOTH);

	plt_expect_err(plt_continue(uffd, mem, PLT_BLOCK, 0, NULL), 0, "CONTINUE");
	plt_expect_err(plt_poison(uffd, mem, PLT_BLOCK, 0, NULL), EEXIST,
		       "POISON of what is mapped");
	t = plt_touch_read(mem + 2 * PLT_BLOCK + 3 * PLT_PAGE);
	plt_expect_fault(uffd, mem + 2 * PLT_BLOCK, false, "fault on a hole");
	plt_expect_err(plt_poison(uffd, mem + 2 * PLT_BLOCK, PLT_PAGE, 0, NULL), EINVAL,
		       "POISON of a part of a huge page");
	plt_expect_asleep(t, "a thread that waits for it");
	plt_expect_err(plt_poison(uffd, mem + PLT_BLOCK, 3 * PLT_BLOCK, 0, NULL), 0,
		       "POISON of three huge pages");
	plt_expect_end(t, PLT_SIGBUS, "the waiter, after POISON");
	(void)close(uffd);
	t = plt_touch_read(mem + PLT_BLOCK + 9 * PLT_PAGE);
	plt_expect_end(t, PLT_SIGBUS, "a poisoned page of the cache, after close");
	t = plt_touch_write(mem + 3 * PLT_BLOCK, 1);
	plt_expect_end(t, PLT_SIGBUS, "a poisoned hole, after close");
	plt_expect_read(mem + PLT_PAGE, 0, "what was mapped");
	plt_pass();
}
