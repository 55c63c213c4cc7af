/* SPDX-License-Identifier: MIT */
/*
 * read() hands out page faults before events: a fault that came later than a
 * REMOVE is read first.  So a batch is scanned for events, and the descriptor
 * drained of them, before any fault in it is served.
 */
#include "platform.h"

int main(void)
{
	struct plt_task task = { .fn = plt_do_madvise, .len = PLT_PAGE, .arg = MADV_DONTNEED };
	struct plt_toucher *t;
	struct uffd_msg msgs[8];
	unsigned int nr;
	uint8_t *mem;
	int fd;
	int uffd;

	plt_init();
	uffd = plt_uffd(UFFD_FEATURE_MINOR_SHMEM | UFFD_FEATURE_EVENT_REMOVE);
	fd = plt_memfd(8 * PLT_PAGE);
	plt_fill(fd, 0, 8, 0x52);
	mem = plt_map(fd, 8 * PLT_PAGE, MAP_SHARED);
	plt_register(uffd, mem, 8 * PLT_PAGE, PLT_BOTH);
	plt_expect_err(plt_continue(uffd, mem, PLT_PAGE, 0, NULL), 0, "CONTINUE");

	task.addr = mem;
	plt_task_start(&task);
	PLT_CHECK(plt_poll(uffd, PLT_WAIT_MS), "waited 8 s for a REMOVE message, saw none");
	t = plt_touch_read(mem + 4 * PLT_PAGE);
	plt_wait_blocked(t, "the thread that faults after the REMOVE");

	nr = plt_read(uffd, msgs, 8);
	PLT_CHECK(nr == 2, "expected one read to return both messages, saw %u", nr);
	PLT_CHECK(msgs[0].event == UFFD_EVENT_PAGEFAULT && msgs[1].event == UFFD_EVENT_REMOVE,
		  "expected the fault before the earlier REMOVE, saw events %#x, %#x",
		  (unsigned int)msgs[0].event, (unsigned int)msgs[1].event);
	plt_expect_err(plt_task_wait(&task, "madvise"), 0, "madvise");
	plt_expect_err(plt_continue(uffd, mem + 4 * PLT_PAGE, PLT_PAGE, 0, NULL), 0, "CONTINUE");
	plt_expect_value(t, 0x52, "the thread that faulted");
	plt_pass();
}
