/* SPDX-License-Identifier: MIT */
/*
 * CONTINUE answers EFAULT when the page cache has no page, and does not make
 * one.  With cached pages before the hole it maps those and says EAGAIN.
 */
#include "platform.h"

int main(void)
{
	struct plt_toucher *t;
	int64_t mapped;
	uint8_t *mem;
	int fd;
	int uffd;

	plt_init();
	uffd = plt_uffd(UFFD_FEATURE_MINOR_SHMEM);
	fd = plt_memfd(4 * PLT_PAGE);
	plt_fill(fd, 0, 2, 0x31);
	mem = plt_map(fd, 4 * PLT_PAGE, MAP_SHARED);
	plt_register_need(uffd, mem, 4 * PLT_PAGE, PLT_BOTH, _UFFDIO_CONTINUE, "UFFDIO_CONTINUE");

	plt_expect_err(plt_continue(uffd, mem, 4 * PLT_PAGE, 0, &mapped), EAGAIN,
		       "CONTINUE of two cached pages and a hole");
	PLT_CHECK(mapped == 2 * (int64_t)PLT_PAGE, "expected mapped = 2 pages, saw %lld bytes",
		  (long long)mapped);
	t = plt_touch_read(mem + 2 * PLT_PAGE);
	plt_expect_fault(uffd, mem + 2 * PLT_PAGE, false, "fault on the hole");
	plt_expect_err(plt_continue(uffd, mem + 2 * PLT_PAGE, PLT_PAGE, 0, &mapped), EFAULT,
		       "CONTINUE of a hole");
	PLT_CHECK(mapped <= 0, "expected nothing mapped, saw %lld", (long long)mapped);
	PLT_CHECK(!plt_cached(fd, 2), "expected that CONTINUE leaves a hole a hole, saw a page");
	plt_expect_asleep(t, "EFAULT wakes nobody");
	plt_expect_read(mem, 0x31, "the page before the hole");
	plt_pass();
}
