/* SPDX-License-Identifier: MIT */
/*
 * UNREGISTER succeeds while a REMOVE is unread, and puts nothing off: its range is the kernel's
 * from then on, installs there are ENOENT, and discards there raise no event.  The thread whose
 * event is unread sleeps on until it is read or the userfaultfd is closed.
 */
#include "platform.h"

static void discard(struct plt_task *task, uint8_t *addr)
{
	*task = (struct plt_task){
		.fn = plt_do_madvise, .addr = addr, .len = PLT_PAGE, .arg = MADV_DONTNEED
	};
	plt_task_start(task);
}

int main(void)
{
	struct plt_task first, second, outside;
	struct plt_toucher *t;
	uint8_t *mem;
	int uffd, fd;

	plt_init();
	uffd = plt_uffd(UFFD_FEATURE_MINOR_SHMEM | UFFD_FEATURE_EVENT_REMOVE);
	fd = plt_memfd(64 * PLT_PAGE);
	plt_fill(fd, 0, 64, 0x51);
	mem = plt_map(fd, 64 * PLT_PAGE, MAP_SHARED);
	plt_register(uffd, mem, 64 * PLT_PAGE, PLT_BOTH);
	plt_expect_err(plt_continue(uffd, mem, PLT_PAGE, 0, NULL), 0, "CONTINUE");
	discard(&first, mem);
	PLT_CHECK(plt_poll(uffd, PLT_WAIT_MS), "waited 8 s for a REMOVE message, saw none");
	plt_task_expect_asleep(&first, "madvise while its event is unread");
	plt_expect_err(plt_unregister(uffd, mem, 16 * PLT_PAGE), 0,
		       "UNREGISTER while a REMOVE of the range is unread");
	plt_task_expect_asleep(&first, "madvise after its range was unregistered");
	t = plt_touch_read(mem + PLT_PAGE);
	plt_expect_value(t, 0x51, "a page of the unregistered range");
	discard(&outside, mem + PLT_PAGE);
	plt_expect_err(plt_task_wait(&outside, "madvise in the unregistered range"), 0, "madvise");
	(void)plt_expect_event(uffd, UFFD_EVENT_REMOVE, "discard");
	plt_expect_err(plt_task_wait(&first, "madvise after its event was read"), 0, "madvise");
	plt_expect_err(plt_continue(uffd, mem, PLT_PAGE, 0, NULL), ENOENT,
		       "CONTINUE in the unregistered range");

	discard(&second, mem + 32 * PLT_PAGE);
	PLT_CHECK(plt_poll(uffd, PLT_WAIT_MS), "waited 8 s for a REMOVE message, saw none");
	plt_expect_err(plt_unregister(uffd, mem + 16 * PLT_PAGE, 48 * PLT_PAGE), 0, "UNREGISTER");
	plt_task_expect_asleep(&second, "madvise while its event is unread");
	close(uffd);
	plt_expect_err(plt_task_wait(&second, "madvise after the userfaultfd was closed"), 0,
		       "madvise");
	plt_pass();
}
