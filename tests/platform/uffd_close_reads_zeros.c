/* SPDX-License-Identifier: MIT */
/*
 * Closing a userfaultfd stops nobody: waiters go on, pages in the cache read
 * their contents, and pages that are not read zeros, which puts a page of zeros
 * into the image.  A duplicate of the descriptor keeps faults waiting.
 */
#include "platform.h"

int main(void)
{
	struct plt_toucher *hole;
	struct plt_toucher *cached;
	uint8_t *mem;
	int fd;
	int uffd;
	int twin;

	plt_init();
	uffd = plt_uffd(UFFD_FEATURE_MINOR_SHMEM);
	fd = plt_memfd(4 * PLT_PAGE);
	plt_fill(fd, 2, 2, 0x71);
	mem = plt_map(fd, 4 * PLT_PAGE, MAP_SHARED);
	plt_register(uffd, mem, 4 * PLT_PAGE, PLT_BOTH);
	hole = plt_touch_read(mem);
	plt_expect_fault(uffd, mem, false, "fault on a hole");
	cached = plt_touch_read(mem + 2 * PLT_PAGE);
	plt_expect_fault(uffd, mem + 2 * PLT_PAGE, true, "fault on a cached page");

	twin = dup(uffd);
	PLT_CHECK(twin >= 0, "dup: %s", strerror(errno));
	close(uffd);
	plt_expect_asleep(hole, "closed, with a duplicate left: the waiter on a hole");
	PLT_CHECK(!plt_cached(fd, 0), "expected no page while the waiter waits, saw one");
	close(twin);
	plt_expect_value(cached, 0x71, "closed: the waiter on a cached page");
	plt_expect_value(hole, 0, "closed: the waiter on a hole");
	PLT_CHECK(plt_cached(fd, 0), "expected that the read put a page into the image, saw none");
	plt_expect_read(mem + PLT_PAGE, 0, "closed: a touch of a hole");
	plt_expect_read(mem + 3 * PLT_PAGE, 0x71, "closed: a touch of a cached page");
	plt_pass();
}
