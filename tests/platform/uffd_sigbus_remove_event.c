/* SPDX-License-Identifier: MIT */
/*
 * UFFD_FEATURE_SIGBUS queues no faults and still tells of events: a discard sleeps
 * until its REMOVE is read, installs are put off with EAGAIN meanwhile, and the next
 * touch raises SIGBUS again.  With EVENT_REMAP a range that mremap() moves keeps the
 * mode; without it the range would be served by the kernel, and holes read zeros.
 */
#include "platform.h"

int main(void)
{
	struct plt_task discard = { .fn = plt_do_madvise, .len = PLT_PAGE, .arg = MADV_DONTNEED };
	struct plt_task move = { .fn = plt_do_mremap, .len = 8 * PLT_PAGE };
	uint8_t *mem, *to;
	int uffd, fd;

	plt_init();
	uffd = plt_uffd(UFFD_FEATURE_MINOR_SHMEM | UFFD_FEATURE_SIGBUS | UFFD_FEATURE_EVENT_REMOVE |
			UFFD_FEATURE_EVENT_REMAP | UFFD_FEATURE_EVENT_UNMAP);
	fd = plt_memfd(8 * PLT_PAGE);
	plt_fill(fd, 0, 4, 0x3e);
	mem = plt_map(fd, 8 * PLT_PAGE, MAP_SHARED);
	to = plt_map(fd, 8 * PLT_PAGE, MAP_SHARED);
	plt_register(uffd, mem, 8 * PLT_PAGE, PLT_BOTH);

	plt_expect_err(plt_continue(uffd, mem, PLT_PAGE, 0, NULL), 0, "CONTINUE");
	plt_expect_read(mem, 0x3e, "a page that is mapped");
	discard.addr = mem;
	plt_task_start(&discard);
	PLT_CHECK(plt_poll(uffd, PLT_WAIT_MS), "waited 8 s for a REMOVE message, saw none");
	plt_task_expect_asleep(&discard, "madvise while its event is unread");
	plt_expect_err(plt_continue(uffd, mem + PLT_PAGE, PLT_PAGE, 0, NULL), EAGAIN,
		       "CONTINUE while a REMOVE is unread");
	(void)plt_expect_event(uffd, UFFD_EVENT_REMOVE, "discard");
	plt_expect_err(plt_task_wait(&discard, "madvise after its event was read"), 0, "madvise");
	plt_expect_end(plt_touch_read(mem), PLT_SIGBUS, "a touch after the discard");
	plt_expect_no_message(uffd, "SIGBUS mode");

	move.addr = mem;
	move.to = to;
	plt_task_start(&move);
	(void)plt_expect_event(uffd, UFFD_EVENT_REMAP, "mremap");
	while (!plt_task_ended(&move, 50)) {
		struct uffd_msg msgs[4];

		(void)plt_read(uffd, msgs, 4); /* the old place's UNMAP */
	}
	plt_expect_end(plt_touch_read(to + 6 * PLT_PAGE), PLT_SIGBUS, "a hole that has moved");
	plt_expect_end(plt_touch_read(to + PLT_PAGE), PLT_SIGBUS, "a cached page that has moved");
	PLT_CHECK(!plt_cached(fd, 6), "a touch in SIGBUS mode has made a page");
	plt_pass();
}
