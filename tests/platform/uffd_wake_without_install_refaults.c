/* SPDX-License-Identifier: MIT */
/*
 * WAKE without an install makes the thread fault again, with a new message each
 * time: waking alone never ends.
 */
#include "platform.h"

enum {
	ROUNDS = 1000
};

int main(void)
{
	struct plt_toucher *t;
	uint8_t *mem;
	int fd;
	int uffd;

	plt_init();
	uffd = plt_uffd(UFFD_FEATURE_MINOR_SHMEM);
	fd = plt_memfd(PLT_PAGE);
	plt_fill(fd, 0, 1, 0x83);
	mem = plt_map(fd, PLT_PAGE, MAP_SHARED);
	plt_register(uffd, mem, PLT_PAGE, PLT_BOTH);
	t = plt_touch_read(mem);
	for (int i = 0; i < ROUNDS; i++) {
		plt_expect_fault(uffd, mem, true, "the same touch again");
		plt_expect_err(plt_wake(uffd, mem, PLT_PAGE), 0, "WAKE");
	}
	plt_expect_fault(uffd, mem, true, "the last fault");
	plt_expect_err(plt_continue(uffd, mem, PLT_PAGE, 0, NULL), 0, "CONTINUE");
	plt_expect_value(t, 0x83, "one touch, 1001 messages");
	plt_pass();
}
