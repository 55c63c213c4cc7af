/* SPDX-License-Identifier: MIT */
/*
 * A fault in a huge page names its first byte, as minor when the cache has it and as
 * missing when not.  CONTINUE maps all of it, writable, and no part; it answers EFAULT
 * where the cache has none, and EEXIST for what is mapped.
 */
#include "hugetlb.h"

int main(void)
{
	struct plt_toucher *t;
	uint8_t *mem, *alias;
	int64_t mapped;
	int fd, uffd;

	hugetlb_init(4);
	uffd = plt_uffd(HUGETLB_FEATURES);
	fd = hugetlb_memfd(4);
	alias = plt_map(fd, 4 * PLT_BLOCK, MAP_SHARED | MAP_NORESERVE);
	memset(alias, 0x41, 2 * PLT_BLOCK);
	mem = plt_map(fd, 4 * PLT_BLOCK, MAP_SHARED | MAP_NORESERVE);
	plt_register_need(uffd, mem, 4 * PLT_BLOCK, PLT_BOTH, _UFFDIO_CONTINUE, "UFFDIO_CONTINUE");

	t = plt_touch_read(mem + 5 * PLT_PAGE);
	plt_expect_fault(uffd, mem, true, "fault on the sixth page of a huge page in the cache");
	plt_expect_err(plt_continue(uffd, mem, PLT_PAGE, 0, &mapped), EINVAL,
		       "CONTINUE of a part of a huge page");
	plt_expect_err(plt_continue(uffd, mem, PLT_BLOCK, 0, &mapped), 0,
		       "CONTINUE of a huge page");
	plt_expect_value(t, 0x41, "the thread that waited");
	plt_expect_write(mem + PLT_BLOCK - 1, 0x42, "the end of the huge page");
	PLT_CHECK(alias[PLT_BLOCK - 1] == 0x42, "expected the write in the cache");
	plt_expect_err(plt_continue(uffd, mem, PLT_BLOCK, 0, &mapped), EEXIST,
		       "CONTINUE of what is mapped");

	t = plt_touch_read(mem + 2 * PLT_BLOCK + PLT_PAGE);
	plt_expect_fault(uffd, mem + 2 * PLT_BLOCK, false, "fault on a hole");
	plt_expect_err(plt_continue(uffd, mem + 2 * PLT_BLOCK, PLT_BLOCK, 0, &mapped), EFAULT,
		       "CONTINUE of a hole");
	plt_expect_asleep(t, "EFAULT wakes nobody");
	plt_pass();
}
