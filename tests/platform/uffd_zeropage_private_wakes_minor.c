/* SPDX-License-Identifier: MIT */
/*
 * In a private mapping a page that was given up faults as minor, because the image
 * has it; ZEROPAGE answers that fault too, and again is EEXIST.  MADV_REMOVE is
 * refused there, and nobody is told of it.
 */
#include "platform.h"

int main(void)
{
	struct plt_toucher *t;
	uint8_t *mem;
	int fd;
	int uffd;

	plt_init();
	uffd = plt_uffd(UFFD_FEATURE_MINOR_SHMEM | UFFD_FEATURE_EVENT_REMOVE);
	fd = plt_memfd(4 * PLT_PAGE);
	plt_fill(fd, 0, 4, 0x83);
	mem = plt_map(fd, 4 * PLT_PAGE, MAP_PRIVATE);
	plt_register_need(uffd, mem, 4 * PLT_PAGE, PLT_BOTH, _UFFDIO_ZEROPAGE, "UFFDIO_ZEROPAGE");
	plt_expect_err(plt_continue(uffd, mem, 4 * PLT_PAGE, 0, NULL), 0, "CONTINUE");
	plt_madvise_served(uffd, mem, 2 * PLT_PAGE, MADV_DONTNEED);

	t = plt_touch_write(mem, 0x84);
	plt_expect_fault(uffd, mem, true, "a write to a page that was given up");
	plt_expect_err(plt_zeropage(uffd, mem, PLT_PAGE, 0, NULL), 0, "ZEROPAGE");
	plt_expect_end(t, PLT_DONE, "the thread that waited with a minor fault");
	plt_expect_read(mem + 1, 0, "the rest of the page");
	plt_expect_err(plt_zeropage(uffd, mem, PLT_PAGE, 0, NULL), EEXIST,
		       "ZEROPAGE of a page that was written");
	plt_expect_err(plt_zeropage(uffd, mem + 2 * PLT_PAGE, PLT_PAGE, 0, NULL), EEXIST,
		       "ZEROPAGE of the image's page");
	plt_expect_read(mem, 0x84, "what was written");

	PLT_CHECK(madvise(mem + 2 * PLT_PAGE, PLT_PAGE, MADV_REMOVE) != 0 && errno == EACCES,
		  "expected EACCES for MADV_REMOVE in a private mapping");
	plt_expect_no_message(uffd, "MADV_REMOVE in a private mapping");
	plt_expect_read(mem + 2 * PLT_PAGE, 0x83, "after MADV_REMOVE");
	plt_pass();
}
