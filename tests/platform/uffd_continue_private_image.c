/* SPDX-License-Identifier: MIT */
/*
 * CONTINUE works in a private mapping of a memfd: it maps the shared page, the
 * first write copies it, and the image keeps its contents.
 */
#include "platform.h"

int main(void)
{
	uint8_t *alias;
	uint8_t *mem;
	int fd;
	int uffd;

	plt_init();
	uffd = plt_uffd(UFFD_FEATURE_MINOR_SHMEM);
	fd = plt_memfd(4 * PLT_PAGE);
	plt_fill(fd, 0, 4, 0x45);
	alias = plt_map(fd, 4 * PLT_PAGE, MAP_SHARED);
	mem = plt_map(fd, 4 * PLT_PAGE, MAP_PRIVATE);
	plt_register_need(uffd, mem, 4 * PLT_PAGE, PLT_BOTH, _UFFDIO_CONTINUE, "UFFDIO_CONTINUE");

	plt_expect_err(plt_continue(uffd, mem, 4 * PLT_PAGE, 0, NULL), 0,
		       "CONTINUE in a private mapping");
	plt_expect_read(mem, 0x45, "the image's page");
	plt_expect_write(mem, 0x46, "the first write");
	plt_expect_read(mem, 0x46, "the private copy");
	plt_expect_read(alias, 0x45, "the image after a private write");
	plt_expect_no_message(uffd, "a private mapping that CONTINUE has mapped");
	plt_pass();
}
