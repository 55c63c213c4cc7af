/* SPDX-License-Identifier: MIT */
/*
 * MADV_DONTNEED on a shared mapping raises REMOVE but leaves the page cache
 * alone: the page faults again as minor, and its contents come back.
 */
#include "platform.h"

int main(void)
{
	struct plt_toucher *t;
	uint8_t *mem;
	int fd;
	int uffd;

	plt_init();
	uffd = plt_uffd(UFFD_FEATURE_MINOR_SHMEM | UFFD_FEATURE_EVENT_REMOVE);
	fd = plt_memfd(4 * PLT_PAGE);
	plt_fill(fd, 0, 4, 0x62);
	mem = plt_map(fd, 4 * PLT_PAGE, MAP_SHARED);
	plt_register(uffd, mem, 4 * PLT_PAGE, PLT_BOTH);
	plt_expect_err(plt_continue(uffd, mem, 4 * PLT_PAGE, 0, NULL), 0, "CONTINUE");
	plt_expect_write(mem + PLT_PAGE, 0x63, "write");

	plt_madvise_served(uffd, mem + PLT_PAGE, PLT_PAGE, MADV_DONTNEED);
	PLT_CHECK(plt_cached(fd, 1), "expected the page to stay in the cache, saw a hole");
	t = plt_touch_read(mem + PLT_PAGE);
	plt_expect_fault(uffd, mem + PLT_PAGE, true, "touch after MADV_DONTNEED");
	plt_expect_err(plt_continue(uffd, mem + PLT_PAGE, PLT_PAGE, 0, NULL), 0, "CONTINUE");
	plt_expect_value(t, 0x63, "contents after MADV_DONTNEED");
	plt_pass();
}
