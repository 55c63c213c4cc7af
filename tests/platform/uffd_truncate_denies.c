/* SPDX-License-Identifier: MIT */
/*
 * Truncating the image denies access to what is beyond its end: SIGBUS without a
 * message, also for a thread that waited and is woken.  What was mapped goes too,
 * and CONTINUE says EINVAL.
 */
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
	plt_fill(fd, 0, 3, 0x92);
	mem = plt_map(fd, 4 * PLT_PAGE, MAP_SHARED);
	plt_register(uffd, mem, 4 * PLT_PAGE, PLT_BOTH);
	plt_expect_err(plt_continue(uffd, mem, 2 * PLT_PAGE, 0, NULL), 0, "CONTINUE");
	t = plt_touch_read(mem + 3 * PLT_PAGE);
	plt_expect_fault(uffd, mem + 3 * PLT_PAGE, false, "fault on a hole");

	PLT_CHECK(ftruncate(fd, (off_t)PLT_PAGE) == 0, "ftruncate: %s", strerror(errno));
	plt_expect_asleep(t, "ftruncate wakes nobody");
	plt_expect_err(plt_wake(uffd, mem + 3 * PLT_PAGE, PLT_PAGE), 0, "WAKE");
	plt_expect_end(t, PLT_SIGBUS, "the waiter, woken after ftruncate");
	plt_expect_end(plt_touch_read(mem + PLT_PAGE), PLT_SIGBUS, "a page that was mapped");
	plt_expect_end(plt_touch_read(mem + 2 * PLT_PAGE), PLT_SIGBUS, "a page that was cached");
	plt_expect_no_message(uffd, "touches beyond the end");
	plt_expect_err(plt_continue(uffd, mem + 2 * PLT_PAGE, PLT_PAGE, 0, NULL), EINVAL,
		       "CONTINUE beyond the end");
	plt_expect_read(mem, 0x92, "what is left");
	plt_pass();
}
