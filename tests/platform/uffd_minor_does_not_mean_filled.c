/* SPDX-License-Identifier: MIT */
/*
 * MINOR says that a page is in the page cache, not that anybody filled it: a
 * populated alias, and a touch of any other mapping, put a page of zeros there,
 * and CONTINUE maps it.  So only the image's own state may permit CONTINUE.
 */
#include "platform.h"

int main(void)
{
	struct plt_toucher *t;
	uint8_t *alias;
	uint8_t *mem;
	int fd;
	int uffd;

	plt_init();
	uffd = plt_uffd(UFFD_FEATURE_MINOR_SHMEM);
	fd = plt_memfd(4 * PLT_PAGE);
	alias = plt_map(fd, 4 * PLT_PAGE, MAP_SHARED);
	mem = plt_map(fd, 4 * PLT_PAGE, MAP_SHARED);
	plt_register(uffd, mem, 4 * PLT_PAGE, PLT_BOTH);

	PLT_CHECK(madvise(alias, PLT_PAGE, MADV_POPULATE_WRITE) == 0, "MADV_POPULATE_WRITE: %s",
		  strerror(errno));
	t = plt_touch_read(mem);
	plt_expect_fault(uffd, mem, true, "a page that MADV_POPULATE_WRITE made");
	plt_expect_err(plt_continue(uffd, mem, PLT_PAGE, 0, NULL), 0, "CONTINUE of zeros");
	plt_expect_value(t, 0, "a page that nobody filled");

	plt_expect_read(alias + PLT_PAGE, 0, "a read of a hole through the alias");
	plt_touch_read(mem + PLT_PAGE);
	plt_expect_fault(uffd, mem + PLT_PAGE, true, "a hole that was read through the alias");
	plt_pass();
}
