/* SPDX-License-Identifier: MIT */
/*
 * MADV_DONTNEED on a private mapping of an image throws the private copy away:
 * the page faults as minor and the image's contents are back, not zeros.
 * Private anonymous memory faults as missing instead.
 */
#include "platform.h"

int main(void)
{
	struct plt_toucher *t;
	uint8_t *anon;
	uint8_t *mem;
	int fd;
	int uffd;

	plt_init();
	uffd = plt_uffd(UFFD_FEATURE_MINOR_SHMEM | UFFD_FEATURE_EVENT_REMOVE);
	fd = plt_memfd(4 * PLT_PAGE);
	plt_fill(fd, 0, 4, 0x65);
	mem = plt_map(fd, 4 * PLT_PAGE, MAP_PRIVATE);
	plt_register(uffd, mem, 4 * PLT_PAGE, PLT_BOTH);
	plt_expect_err(plt_continue(uffd, mem, 4 * PLT_PAGE, 0, NULL), 0, "CONTINUE");
	plt_expect_write(mem + PLT_PAGE, 0x66, "private write");

	plt_madvise_served(uffd, mem + PLT_PAGE, PLT_PAGE, MADV_DONTNEED);
	t = plt_touch_read(mem + PLT_PAGE);
	plt_expect_fault(uffd, mem + PLT_PAGE, true, "touch after MADV_DONTNEED");
	plt_expect_err(plt_continue(uffd, mem + PLT_PAGE, PLT_PAGE, 0, NULL), 0, "CONTINUE");
	plt_expect_value(t, 0x65, "contents after MADV_DONTNEED on a private mapping");

	anon = plt_map(-1, PLT_PAGE, MAP_PRIVATE | MAP_ANONYMOUS);
	plt_expect_write(anon, 0x67, "anonymous write");
	plt_register(uffd, anon, PLT_PAGE, PLT_MISSING);
	plt_madvise_served(uffd, anon, PLT_PAGE, MADV_DONTNEED);
	plt_touch_read(anon);
	plt_expect_fault(uffd, anon, false, "anonymous memory after MADV_DONTNEED");
	plt_pass();
}
