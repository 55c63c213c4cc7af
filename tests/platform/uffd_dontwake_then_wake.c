/* SPDX-License-Identifier: MIT */
/*
 * Installs with DONTWAKE wake no thread, and one WAKE over a span wakes all threads that
 * wait in it, and only those: one scan of the waiters in place of many.  A waiter
 * whose page is not there yet is woken too, and faults again.
 */
#include "platform.h"

enum {
	NR = 8
};

int main(void)
{
	struct plt_toucher *t[NR];
	uint8_t *mem;
	int fd;
	int uffd;

	plt_init();
	uffd = plt_uffd(UFFD_FEATURE_MINOR_SHMEM);
	fd = plt_memfd(NR * PLT_PAGE);
	plt_fill(fd, 0, NR, 0x85);
	mem = plt_map(fd, NR * PLT_PAGE, MAP_SHARED);
	plt_register(uffd, mem, NR * PLT_PAGE, PLT_BOTH);
	for (uint64_t i = 0; i < NR; i++) {
		t[i] = plt_touch_read(mem + i * PLT_PAGE);
		plt_expect_fault(uffd, mem + i * PLT_PAGE, true, "fault");
	}
	/* All but page 2. */
	for (uint64_t i = 0; i < NR; i++)
		if (i != 2)
			plt_expect_err(plt_continue(uffd, mem + i * PLT_PAGE, PLT_PAGE,
						    UFFDIO_CONTINUE_MODE_DONTWAKE, NULL),
				       0, "CONTINUE with DONTWAKE");
	for (int i = 0; i < NR; i++)
		plt_expect_asleep(t[i], "after CONTINUE with DONTWAKE");

	plt_expect_err(plt_wake(uffd, mem, 4 * PLT_PAGE), 0, "WAKE of pages 0 to 3");
	for (int i = 0; i < 4; i++)
		if (i != 2)
			plt_expect_value(t[i], 0x85, "a waiter within the span");
	plt_expect_fault(uffd, mem + 2 * PLT_PAGE, true, "the waiter whose page was not there");
	for (int i = 4; i < NR; i++)
		plt_expect_asleep(t[i], "a waiter outside the span");
	plt_expect_err(plt_continue(uffd, mem + 2 * PLT_PAGE, PLT_PAGE, 0, NULL), 0, "CONTINUE");
	plt_expect_value(t[2], 0x85, "page 2");
	plt_expect_err(plt_wake(uffd, mem + 4 * PLT_PAGE, 4 * PLT_PAGE), 0, "WAKE of the rest");
	for (int i = 4; i < NR; i++)
		plt_expect_value(t[i], 0x85, "a waiter of the rest");
	plt_pass();
}
