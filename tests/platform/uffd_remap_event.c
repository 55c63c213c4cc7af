/* SPDX-License-Identifier: MIT */
/*
 * EVENT_REMAP: mremap() of a range blocks until its event is read; the new place
 * stays registered, keeps what was mapped, and faults come with the new address.
 */
#include "platform.h"

int main(void)
{
	struct plt_task task = { .fn = plt_do_mremap, .len = PLT_BLOCK };
	struct plt_toucher *t;
	struct uffd_msg msg;
	uint8_t *mem;
	uint8_t *to;
	int fd;
	int uffd;

	plt_init();
	uffd = plt_uffd(UFFD_FEATURE_MINOR_SHMEM | UFFD_FEATURE_EVENT_REMAP);
	fd = plt_memfd(2 * PLT_BLOCK);
	plt_fill(fd, 0, 2 * PLT_BLOCK / PLT_PAGE, 0x87);
	mem = plt_map(fd, 2 * PLT_BLOCK, MAP_SHARED);
	to = plt_map(-1, PLT_BLOCK, MAP_PRIVATE | MAP_ANONYMOUS);
	plt_register(uffd, mem, 2 * PLT_BLOCK, PLT_BOTH);
	plt_expect_err(plt_continue(uffd, mem, PLT_PAGE, 0, NULL), 0, "CONTINUE");

	task.addr = mem;
	task.to = to;
	plt_task_start(&task);
	PLT_CHECK(plt_poll(uffd, PLT_WAIT_MS), "waited 8 s for a REMAP message, saw none");
	plt_task_expect_asleep(&task, "mremap while its event is unread");
	plt_expect_err(plt_continue(uffd, mem + PLT_BLOCK, PLT_PAGE, 0, NULL), EAGAIN,
		       "CONTINUE while a REMAP is unread");
	msg = plt_expect_event(uffd, UFFD_EVENT_REMAP, "mremap");
	PLT_CHECK(msg.arg.remap.from == (uintptr_t)mem && msg.arg.remap.to == (uintptr_t)to &&
			  msg.arg.remap.len == PLT_BLOCK,
		  "REMAP: expected %p to %p, 2 MiB, saw %#llx to %#llx, %#llx", (void *)mem,
		  (void *)to, (unsigned long long)msg.arg.remap.from,
		  (unsigned long long)msg.arg.remap.to, (unsigned long long)msg.arg.remap.len);
	plt_expect_err(plt_task_wait(&task, "mremap after its event was read"), 0, "mremap");

	t = plt_touch_read(to + 5 * PLT_PAGE);
	plt_expect_fault(uffd, to + 5 * PLT_PAGE, true, "a fault at the new place");
	plt_expect_err(plt_continue(uffd, to + 5 * PLT_PAGE, PLT_PAGE, 0, NULL), 0,
		       "CONTINUE at the new place");
	plt_expect_value(t, 0x87, "the new place");
	plt_expect_read(to, 0x87, "a page that was mapped before it moved");
	plt_expect_err(plt_continue(uffd, mem + PLT_PAGE, PLT_PAGE, 0, NULL), ENOENT,
		       "CONTINUE at the old place");
	plt_expect_err(plt_continue(uffd, mem + PLT_BLOCK, PLT_PAGE, 0, NULL), 0,
		       "CONTINUE in the part that did not move");
	plt_pass();
}
