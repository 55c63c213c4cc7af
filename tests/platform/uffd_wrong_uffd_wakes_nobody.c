/* SPDX-License-Identifier: MIT */
/*
 * An install through a userfaultfd that does not own the range is not refused
 * (printed if it is): it installs, and wakes nobody, for the waiters stand in the
 * owner's queue.  So a wrong shard is a hang and not an error.
 */
#include "platform.h"

int main(void)
{
	struct plt_toucher *t;
	uint8_t *mem;
	int uffd[2];
	int err;
	int fd;

	plt_init();
	uffd[0] = plt_uffd(UFFD_FEATURE_MINOR_SHMEM);
	uffd[1] = plt_uffd(UFFD_FEATURE_MINOR_SHMEM);
	fd = plt_memfd(PLT_BLOCK);
	plt_fill(fd, 0, 4, 0x91);
	mem = plt_map(fd, PLT_BLOCK, MAP_SHARED);
	plt_register(uffd[0], mem, PLT_BLOCK, PLT_BOTH);
	t = plt_touch_read(mem);
	plt_expect_fault(uffd[0], mem, true, "fault");
	err = plt_continue(uffd[1], mem, PLT_PAGE, 0, NULL);
	plt_note("CONTINUE through a userfaultfd that does not own the range: %s",
		 err ? strerror(err) : "installs");
	plt_expect_asleep(t, "the waiter, after an install through another userfaultfd");
	plt_expect_err(plt_wake(uffd[1], mem, PLT_PAGE), 0, "WAKE through the other");
	plt_expect_asleep(t, "the waiter, after a WAKE through another userfaultfd");
	if (err)
		plt_expect_err(plt_continue(uffd[0], mem, PLT_PAGE, 0, NULL), 0, "CONTINUE");
	else
		plt_expect_err(plt_wake(uffd[0], mem, PLT_PAGE), 0, "WAKE through the owner");
	plt_expect_value(t, 0x91, "the waiter");
	plt_pass();
}
