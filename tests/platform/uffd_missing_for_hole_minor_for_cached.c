/* SPDX-License-Identifier: MIT */
/* Registered MISSING|MINOR: a hole faults as missing, a cached page as minor. */
#include "platform.h"

int main(void)
{
	struct plt_toucher *t;
	uint8_t *mem;
	int fd;
	int uffd;

	plt_init();
	uffd = plt_uffd(UFFD_FEATURE_MINOR_SHMEM);
	fd = plt_memfd(4 * PLT_PAGE);
	plt_fill(fd, 1, 1, 0x41);
	mem = plt_map(fd, 4 * PLT_PAGE, MAP_SHARED);
	plt_register(uffd, mem, 4 * PLT_PAGE, PLT_BOTH);

	plt_touch_read(mem);
	plt_expect_fault(uffd, mem, false, "read of a hole");
	plt_touch_write(mem + 2 * PLT_PAGE, 1);
	plt_expect_fault(uffd, mem + 2 * PLT_PAGE, false, "write of a hole");
	t = plt_touch_read(mem + PLT_PAGE);
	plt_expect_fault(uffd, mem + PLT_PAGE, true, "read of a cached page");
	PLT_CHECK(!plt_cached(fd, 0) && !plt_cached(fd, 2),
		  "expected that a queued fault makes no page, saw one in the cache");
	plt_expect_err(plt_continue(uffd, mem + PLT_PAGE, PLT_PAGE, 0, NULL), 0, "CONTINUE");
	plt_expect_value(t, 0x41, "the cached page");
	plt_pass();
}
