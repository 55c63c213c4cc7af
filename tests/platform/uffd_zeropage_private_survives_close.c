/* SPDX-License-Identifier: MIT */
/*
 * Zeros that were mapped in a private mapping outlive UNREGISTER and close, over
 * contents of the image as well.  What was given up and is not mapped reads the
 * image's contents then.
 */
#include "platform.h"

int main(void)
{
	uint8_t *mem;
	int fd;
	int uffd;

	plt_init();
	uffd = plt_uffd(UFFD_FEATURE_MINOR_SHMEM | UFFD_FEATURE_EVENT_REMOVE);
	fd = plt_memfd(4 * PLT_PAGE);
	plt_fill(fd, 0, 4, 0x85);
	mem = plt_map(fd, 4 * PLT_PAGE, MAP_PRIVATE);
	plt_register_need(uffd, mem, 4 * PLT_PAGE, PLT_BOTH, _UFFDIO_ZEROPAGE, "UFFDIO_ZEROPAGE");
	plt_expect_err(plt_continue(uffd, mem, 4 * PLT_PAGE, 0, NULL), 0, "CONTINUE");
	plt_madvise_served(uffd, mem, 3 * PLT_PAGE, MADV_DONTNEED);
	plt_expect_err(plt_zeropage(uffd, mem, 2 * PLT_PAGE, 0, NULL), 0, "ZEROPAGE");
	plt_expect_err(plt_unregister(uffd, mem, PLT_PAGE), 0, "UNREGISTER");
	plt_expect_read(mem, 0, "unregistered: a page of zeros");
	close(uffd);
	plt_expect_read(mem + PLT_PAGE, 0, "closed: a page of zeros");
	plt_expect_read(mem + 2 * PLT_PAGE, 0x85, "closed: given up, and not mapped");
	plt_expect_write(mem + PLT_PAGE, 1, "closed: a write to a page of zeros");
	plt_pass();
}
