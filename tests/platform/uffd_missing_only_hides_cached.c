/* SPDX-License-Identifier: MIT */
/*
 * Registered MISSING only: pages in the cache are mapped by the kernel itself and
 * never reported, a waiter on a hole is served by pwrite and WAKE, and CONTINUE
 * works all the same where it is offered.  This is "publishing by the cache".
 */
#include "platform.h"

int main(void)
{
	struct plt_toucher *t;
	uint64_t ioctls = 0;
	uint8_t *mem;
	int fd;
	int uffd;
	int err;

	plt_init();
	uffd = plt_uffd(UFFD_FEATURE_MISSING_SHMEM | UFFD_FEATURE_MINOR_SHMEM);
	fd = plt_memfd(64 * PLT_PAGE);
	plt_fill(fd, 0, 32, 0x42);
	mem = plt_map(fd, 64 * PLT_PAGE, MAP_SHARED);
	plt_expect_err(plt_register_try(uffd, mem, 64 * PLT_PAGE, PLT_MISSING, &ioctls), 0,
		       "UFFDIO_REGISTER");

	plt_expect_read(mem, 0x42, "read of a cached page");
	plt_expect_write(mem + PLT_PAGE, 1, "write of a cached page");
	plt_expect_no_message(uffd, "touches of cached pages");

	t = plt_touch_read(mem + 40 * PLT_PAGE);
	plt_expect_fault(uffd, mem + 40 * PLT_PAGE, false, "read of a hole");
	plt_fill(fd, 40, 1, 0x43);
	plt_expect_asleep(t, "a pwrite wakes nobody");
	plt_expect_err(plt_wake(uffd, mem + 40 * PLT_PAGE, PLT_PAGE), 0, "WAKE");
	plt_expect_value(t, 0x43, "the page that pwrite filled");
	plt_expect_no_message(uffd, "after pwrite and WAKE");

	plt_fill(fd, 48, 2, 0x44);
	err = plt_continue(uffd, mem + 48 * PLT_PAGE, 2 * PLT_PAGE, 0, NULL);
	plt_note("CONTINUE with MISSING only: %s (REGISTER %s it)", err ? strerror(err) : "works",
		 ioctls >> _UFFDIO_CONTINUE & 1 ? "offers" : "does not offer");
	plt_expect_read(mem + 48 * PLT_PAGE, 0x44, "page mapped ahead");
	plt_pass();
}
