/* SPDX-License-Identifier: MIT */
/*
 * POISON wakes the threads that wait for the page, and they get SIGBUS; with
 * DONTWAKE they sleep on until WAKE.
 */
#include "platform.h"

int main(void)
{
	struct plt_toucher *t;
	struct plt_toucher *other;
	uint8_t *mem;
	int fd;
	int uffd;

	plt_init();
	uffd = plt_uffd(UFFD_FEATURE_MINOR_SHMEM | UFFD_FEATURE_POISON);
	fd = plt_memfd(8 * PLT_PAGE);
	plt_fill(fd, 4, 4, 0x73);
	mem = plt_map(fd, 8 * PLT_PAGE, MAP_SHARED);
	plt_poisonable(uffd, mem, 8 * PLT_PAGE, PLT_BOTH);

	other = plt_touch_read(mem + 7 * PLT_PAGE);
	plt_expect_fault(uffd, mem + 7 * PLT_PAGE, true, "fault on the page that stays");
	t = plt_touch_read(mem);
	plt_expect_fault(uffd, mem, false, "fault on a hole");
	plt_expect_err(plt_poison(uffd, mem, PLT_PAGE, 0, NULL), 0, "POISON");
	plt_expect_end(t, PLT_SIGBUS, "the waiter on a hole, after POISON");

	t = plt_touch_write(mem + 4 * PLT_PAGE, 1);
	plt_expect_fault(uffd, mem + 4 * PLT_PAGE, true, "fault on a cached page");
	plt_expect_err(plt_poison(uffd, mem + 4 * PLT_PAGE, PLT_PAGE, UFFDIO_POISON_MODE_DONTWAKE,
				  NULL),
		       0, "POISON with DONTWAKE");
	plt_expect_asleep(t, "POISON with DONTWAKE");
	plt_expect_err(plt_wake(uffd, mem + 4 * PLT_PAGE, PLT_PAGE), 0, "WAKE");
	plt_expect_end(t, PLT_SIGBUS, "the waiter on a cached page, after POISON and WAKE");
	plt_expect_asleep(other, "the waiter on a page that was not poisoned");
	plt_pass();
}
