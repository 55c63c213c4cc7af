/* SPDX-License-Identifier: MIT */
/*
 * There is no ZEROPAGE for huge pages.  fallocate() puts one of zeros into the cache,
 * leaves one that is there as it is, and CONTINUE maps it.
 */
#include "hugetlb.h"

int main(void)
{
	struct plt_toucher *t;
	uint8_t *mem, *alias;
	int fd, uffd;

	hugetlb_init(3);
	uffd = plt_uffd(HUGETLB_FEATURES);
	fd = hugetlb_memfd(2);
	alias = plt_map(fd, 2 * PLT_BLOCK, MAP_SHARED | MAP_NORESERVE);
	mem = plt_map(fd, 2 * PLT_BLOCK, MAP_SHARED | MAP_NORESERVE);
	plt_register_need(uffd, mem, 2 * PLT_BLOCK, PLT_BOTH, _UFFDIO_CONTINUE, "UFFDIO_CONTINUE");

	t = plt_touch_read(mem + 7 * PLT_PAGE);
	plt_expect_fault(uffd, mem, false, "fault on a hole");
	plt_expect_err(plt_zeropage(uffd, mem, PLT_BLOCK, 0, NULL), EINVAL, "ZEROPAGE");
	hugetlb_allocate(fd, 0);
	plt_expect_asleep(t, "a page in the cache wakes nobody");
	plt_expect_err(plt_continue(uffd, mem, PLT_BLOCK, 0, NULL), 0, "CONTINUE");
	plt_expect_value(t, 0, "the thread that waited");

	memset(alias + PLT_BLOCK, 0x17, PLT_BLOCK);
	hugetlb_allocate(fd, 1);
	PLT_CHECK(alias[2 * PLT_BLOCK - 1] == 0x17, "expected that fallocate() changes nothing");
	plt_pass();
}
