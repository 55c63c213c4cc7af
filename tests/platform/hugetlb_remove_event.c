/* SPDX-License-Identifier: MIT */
/*
 * MADV_REMOVE of a huge page raises REMOVE, and the page goes out of the cache.  Of a
 * part of one it is raised for that part, and all of the page stays (its part may be
 * overwritten with zeros).  Punching by the descriptor raises nothing.
 */
#include "hugetlb.h"

int main(void)
{
	struct plt_toucher *t;
	uint8_t *mem, *alias;
	int fd, uffd;

	hugetlb_init(3);
	uffd = plt_uffd(HUGETLB_FEATURES);
	fd = hugetlb_memfd(3);
	alias = plt_map(fd, 3 * PLT_BLOCK, MAP_SHARED | MAP_NORESERVE);
	memset(alias, 0x29, 3 * PLT_BLOCK);
	mem = plt_map(fd, 3 * PLT_BLOCK, MAP_SHARED | MAP_NORESERVE);
	plt_register_need(uffd, mem, 3 * PLT_BLOCK, PLT_BOTH, _UFFDIO_CONTINUE, "UFFDIO_CONTINUE");
	plt_expect_err(plt_continue(uffd, mem, 3 * PLT_BLOCK, 0, NULL), 0, "CONTINUE");

	plt_madvise_served(uffd, mem, PLT_PAGE, MADV_REMOVE);
	plt_expect_read(mem + PLT_PAGE, 0x29, "the rest of a huge page of which a part went");
	plt_madvise_served(uffd, mem, PLT_BLOCK, MADV_REMOVE);
	t = plt_touch_read(mem + PLT_PAGE);
	plt_expect_fault(uffd, mem, false, "fault on a huge page that was removed");
	plt_expect_err(plt_continue(uffd, mem, PLT_BLOCK, 0, NULL), EFAULT,
		       "CONTINUE of what was removed");
	hugetlb_allocate(fd, 0);
	plt_expect_err(plt_continue(uffd, mem, PLT_BLOCK, 0, NULL), 0, "CONTINUE of zeros");
	plt_expect_value(t, 0, "the waiting thread");

	if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)PLT_BLOCK,
		      (off_t)PLT_BLOCK) != 0)
		plt_fail("punching: %s", strerror(errno));
	plt_expect_no_message(uffd, "a hole punched by the descriptor");
	t = plt_touch_read(mem + PLT_BLOCK);
	plt_expect_fault(uffd, mem + PLT_BLOCK, false, "fault on what was punched");
	plt_pass();
}
