/* SPDX-License-Identifier: MIT */
/*
 * EVENT_UNMAP: munmap() blocks until its event is read; the range is gone by
 * then (installs: ENOENT).  A thread that waits there is not let go by the event
 * (printed): a WAKE lets it go, and it gets SIGSEGV.
 */
#include "platform.h"

int main(void)
{
	struct plt_task task = { .fn = plt_do_munmap, .len = PLT_BLOCK };
	struct plt_toucher *t;
	struct uffd_msg msg;
	uint8_t *mem;
	int fd;
	int uffd;

	plt_init();
	uffd = plt_uffd(UFFD_FEATURE_MINOR_SHMEM | UFFD_FEATURE_EVENT_UNMAP);
	fd = plt_memfd(2 * PLT_BLOCK);
	plt_fill(fd, 0, 2 * PLT_BLOCK / PLT_PAGE, 0x88);
	mem = plt_map(fd, 2 * PLT_BLOCK, MAP_SHARED);
	plt_register(uffd, mem, 2 * PLT_BLOCK, PLT_BOTH);
	t = plt_touch_read(mem + PLT_PAGE);
	plt_expect_fault(uffd, mem + PLT_PAGE, true, "fault");

	task.addr = mem;
	plt_task_start(&task);
	PLT_CHECK(plt_poll(uffd, PLT_WAIT_MS), "waited 8 s for an UNMAP message, saw none");
	plt_task_expect_asleep(&task, "munmap while its event is unread");
	msg = plt_expect_event(uffd, UFFD_EVENT_UNMAP, "munmap");
	PLT_CHECK(msg.arg.remove.start == (uintptr_t)mem &&
			  msg.arg.remove.end == (uintptr_t)mem + PLT_BLOCK,
		  "UNMAP: expected 2 MiB at %p, saw [%#llx, %#llx)", (void *)mem,
		  (unsigned long long)msg.arg.remove.start, (unsigned long long)msg.arg.remove.end);
	plt_expect_err(plt_task_wait(&task, "munmap after its event was read"), 0, "munmap");
	plt_expect_err(plt_continue(uffd, mem, PLT_PAGE, 0, NULL), ENOENT,
		       "CONTINUE in a range that is gone");
	plt_note("a thread that waited in the range %s",
		 plt_touch_wait(t, PLT_QUIET_MS) == PLT_PENDING ? "sleeps on" : "was let go");
	plt_expect_err(plt_wake(uffd, mem, PLT_BLOCK), 0, "WAKE of a range that is gone");
	plt_expect_end(t, PLT_SIGSEGV, "the thread that waited, after WAKE");
	plt_expect_err(plt_continue(uffd, mem + PLT_BLOCK, PLT_PAGE, 0, NULL), 0,
		       "CONTINUE in the part that stayed");
	plt_pass();
}
