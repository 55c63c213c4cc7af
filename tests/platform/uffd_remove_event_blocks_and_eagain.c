/* SPDX-License-Identifier: MIT */
/*
 * EVENT_REMOVE: the thread that discards sleeps until its event is read, and
 * while it is unread every install on that userfaultfd fails with EAGAIN, also
 * elsewhere; another userfaultfd is not affected, and WAKE works.  It is over at
 * the latest when the discarding thread has returned.
 */
#include "platform.h"

static uint8_t *mem;
static uint8_t *other;
static int uffd;

static void unread(void)
{
	struct plt_task task = {
		.fn = plt_do_madvise, .addr = mem, .len = PLT_PAGE, .arg = MADV_DONTNEED
	};
	int64_t mapped;
	struct uffd_msg msg;
	int quiet = plt_uffd(UFFD_FEATURE_MINOR_SHMEM);

	plt_register(quiet, other, PLT_PAGE, PLT_BOTH);
	plt_expect_err(plt_continue(uffd, mem, PLT_PAGE, 0, NULL), 0, "CONTINUE");
	plt_task_start(&task);
	PLT_CHECK(plt_poll(uffd, PLT_WAIT_MS), "waited 8 s for a REMOVE message, saw none");
	plt_task_expect_asleep(&task, "madvise while its event is unread");
	plt_expect_err(plt_continue(uffd, mem + 8 * PLT_PAGE, PLT_PAGE, 0, &mapped), EAGAIN,
		       "CONTINUE elsewhere while a REMOVE is unread");
	PLT_CHECK(mapped <= 0, "expected nothing mapped, saw %lld", (long long)mapped);
	plt_expect_err(plt_zeropage(uffd, mem + 40 * PLT_PAGE, PLT_PAGE, 0, NULL), EAGAIN,
		       "ZEROPAGE while a REMOVE is unread");
	plt_expect_err(plt_wake(uffd, mem, PLT_PAGE), 0, "WAKE while a REMOVE is unread");
	plt_expect_err(plt_continue(quiet, other, PLT_PAGE, 0, NULL), 0,
		       "CONTINUE on another userfaultfd while a REMOVE is unread");
	msg = plt_expect_event(uffd, UFFD_EVENT_REMOVE, "discard");
	PLT_CHECK(msg.arg.remove.start == (uintptr_t)mem &&
			  msg.arg.remove.end == (uintptr_t)mem + PLT_PAGE,
		  "REMOVE: expected one page at %p, saw [%#llx, %#llx)", (void *)mem,
		  (unsigned long long)msg.arg.remove.start, (unsigned long long)msg.arg.remove.end);
	plt_expect_err(plt_task_wait(&task, "madvise after its event was read"), 0, "madvise");
	plt_expect_err(plt_continue(uffd, mem + 8 * PLT_PAGE, PLT_PAGE, 0, NULL), 0,
		       "CONTINUE after the discarding thread has returned");
	close(quiet);
}

int main(void)
{
	int fd;

	plt_init();
	uffd = plt_uffd(UFFD_FEATURE_MINOR_SHMEM | UFFD_FEATURE_EVENT_REMOVE);
	fd = plt_memfd(64 * PLT_PAGE);
	plt_fill(fd, 0, 32, 0x51);
	mem = plt_map(fd, 64 * PLT_PAGE, MAP_SHARED);
	other = plt_map(fd, 64 * PLT_PAGE, MAP_SHARED);
	plt_register(uffd, mem, 64 * PLT_PAGE, PLT_BOTH);
	unread();
	plt_pass();
}
