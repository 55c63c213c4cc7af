/* SPDX-License-Identifier: MIT */
/*
 * UNREGISTER wakes the waiters of a range that was registered MISSING|MINOR (and
 * they read what the cache has, or zeros).  Registered MINOR only, waiters may
 * sleep on: whether they do is printed, and a WAKE lets them go in any case.
 */
#include "platform.h"

int main(void)
{
	struct plt_toucher *hole;
	struct plt_toucher *cached;
	uint8_t *mem;
	int fd;
	int uffd;

	plt_init();
	uffd = plt_uffd(UFFD_FEATURE_MINOR_SHMEM);
	fd = plt_memfd(2 * PLT_PAGE);
	plt_fill(fd, 1, 1, 0x84);
	mem = plt_map(fd, 2 * PLT_PAGE, MAP_SHARED);
	plt_register(uffd, mem, 2 * PLT_PAGE, PLT_BOTH);
	hole = plt_touch_read(mem);
	plt_expect_fault(uffd, mem, false, "fault on a hole");
	cached = plt_touch_read(mem + PLT_PAGE);
	plt_expect_fault(uffd, mem + PLT_PAGE, true, "fault on a cached page");
	plt_expect_err(plt_unregister(uffd, mem, 2 * PLT_PAGE), 0, "UNREGISTER");
	plt_expect_value(hole, 0, "UNREGISTER of MISSING|MINOR: the waiter on a hole");
	plt_expect_value(cached, 0x84, "UNREGISTER of MISSING|MINOR: the waiter on a cached page");

	mem = plt_map(fd, 2 * PLT_PAGE, MAP_SHARED);
	plt_register(uffd, mem, 2 * PLT_PAGE, PLT_MINOR);
	cached = plt_touch_read(mem + PLT_PAGE);
	plt_expect_fault(uffd, mem + PLT_PAGE, true, "MINOR only: fault on a cached page");
	plt_expect_err(plt_unregister(uffd, mem, 2 * PLT_PAGE), 0, "UNREGISTER");
	plt_note("UNREGISTER of MINOR only: the waiter %s",
		 plt_touch_wait(cached, PLT_QUIET_MS) == PLT_PENDING ? "sleeps on" : "is woken");
	plt_expect_err(plt_wake(uffd, mem, 2 * PLT_PAGE), 0, "WAKE of an unregistered range");
	plt_expect_value(cached, 0x84, "MINOR only: the waiter, after WAKE");
	plt_pass();
}
