/* SPDX-License-Identifier: MIT */
/*
 * A file without pages that is mapped over a registered range (MAP_FIXED): mmap() blocks
 * until the UNMAP event is read, as munmap() does, and by then touches get SIGBUS: what
 * waited there does, after a WAKE.  UNREGISTER of the range is no error.
 */
#include "platform.h"

static int map_over(struct plt_task *task)
{
	int fd = plt_memfd(0);

	return mmap(task->addr, task->len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) ==
			       task->addr
		       ? 0
		       : errno;
}

int main(void)
{
	struct plt_task task = { .fn = map_over, .len = PLT_BLOCK };
	struct plt_toucher *t;
	uint8_t *mem;
	int fd;
	int uffd;

	plt_init();
	uffd = plt_uffd(UFFD_FEATURE_MINOR_SHMEM | UFFD_FEATURE_EVENT_UNMAP);
	fd = plt_memfd(2 * PLT_BLOCK);
	mem = plt_map(fd, 2 * PLT_BLOCK, MAP_SHARED);
	plt_register(uffd, mem, 2 * PLT_BLOCK, PLT_BOTH);
	t = plt_touch_read(mem + PLT_PAGE);
	plt_expect_fault(uffd, mem + PLT_PAGE, false, "fault");

	task.addr = mem;
	plt_task_start(&task);
	PLT_CHECK(plt_poll(uffd, PLT_WAIT_MS), "waited 8 s for an UNMAP message, saw none");
	plt_task_expect_asleep(&task, "mmap while its event is unread");
	plt_expect_end(plt_touch_read(mem + 3 * PLT_PAGE), PLT_SIGBUS, "a touch before that");
	(void)plt_expect_event(uffd, UFFD_EVENT_UNMAP, "mmap over a registered range");
	plt_expect_err(plt_task_wait(&task, "mmap after its event was read"), 0, "mmap");
	plt_expect_err(plt_wake(uffd, mem, PLT_BLOCK), 0, "WAKE of a range that is gone");
	plt_expect_end(t, PLT_SIGBUS, "the thread that waited, after WAKE");
	plt_expect_end(plt_touch_read(mem + 9 * PLT_PAGE), PLT_SIGBUS, "a touch afterwards");
	plt_expect_err(plt_unregister(uffd, mem, 2 * PLT_BLOCK), 0, "UNREGISTER of all of it");
	plt_pass();
}
