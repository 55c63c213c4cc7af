/* SPDX-License-Identifier: MIT */
/*
 * Without EVENT_UNMAP, munmap() of a registered range comes back at once and says
 * nothing, and a thread that waits in the range sleeps on until a WAKE (or the
 * close): it gets SIGSEGV then.
 */
#include "platform.h"

int main(void)
{
	struct plt_task task = { .fn = plt_do_munmap, .len = PLT_BLOCK };
	struct plt_toucher *woken;
	struct plt_toucher *closed;
	uint8_t *mem;
	int fd;
	int uffd;

	plt_init();
	uffd = plt_uffd(UFFD_FEATURE_MINOR_SHMEM);
	fd = plt_memfd(PLT_BLOCK);
	mem = plt_map(fd, PLT_BLOCK, MAP_SHARED);
	plt_register(uffd, mem, PLT_BLOCK, PLT_BOTH);
	woken = plt_touch_read(mem);
	plt_expect_fault(uffd, mem, false, "fault");
	closed = plt_touch_read(mem + PLT_PAGE);
	plt_expect_fault(uffd, mem + PLT_PAGE, false, "fault");

	task.addr = mem;
	plt_task_start(&task);
	plt_expect_err(plt_task_wait(&task, "munmap without EVENT_UNMAP"), 0, "munmap");
	plt_expect_no_message(uffd, "munmap without EVENT_UNMAP");
	plt_expect_asleep(woken, "the waiter whose range is gone");
	plt_expect_err(plt_wake(uffd, mem, PLT_PAGE), 0, "WAKE of a range that is gone");
	plt_expect_end(woken, PLT_SIGSEGV, "the waiter, after WAKE");
	plt_expect_asleep(closed, "the other waiter");
	close(uffd);
	plt_expect_end(closed, PLT_SIGSEGV, "the other waiter, after close");
	plt_pass();
}
