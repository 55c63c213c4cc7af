/* SPDX-License-Identifier: MIT */
/*
 * A hole punched into an image takes the image's pages out of private mappings
 * too, and zeros that were mapped there, and raises no event; private copies stay.
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
	plt_fill(fd, 0, 4, 0x86);
	mem = plt_map(fd, 4 * PLT_PAGE, MAP_PRIVATE);
	plt_register_need(uffd, mem, 4 * PLT_PAGE, PLT_BOTH, _UFFDIO_ZEROPAGE, "UFFDIO_ZEROPAGE");
	plt_expect_err(plt_zeropage(uffd, mem, PLT_PAGE, 0, NULL), 0, "ZEROPAGE");
	plt_expect_err(plt_continue(uffd, mem + PLT_PAGE, 3 * PLT_PAGE, 0, NULL), 0, "CONTINUE");
	plt_expect_write(mem + PLT_PAGE, 0x87, "a private write");
	PLT_CHECK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
			    (off_t)(3 * PLT_PAGE)) == 0,
		  "PUNCH_HOLE: %s", strerror(errno));
	plt_expect_no_message(uffd, "PUNCH_HOLE");
	plt_expect_read(mem + PLT_PAGE, 0x87, "the private copy");
	plt_expect_read(mem + 3 * PLT_PAGE, 0x86, "the page behind the hole");
	t = plt_touch_read(mem);
	plt_expect_fault(uffd, mem, false, "a page of zeros over what was punched");
	plt_expect_err(plt_zeropage(uffd, mem, PLT_PAGE, 0, NULL), 0, "ZEROPAGE");
	plt_expect_value(t, 0, "a page of zeros over what was punched");
	t = plt_touch_read(mem + 2 * PLT_PAGE);
	plt_expect_fault(uffd, mem + 2 * PLT_PAGE, false, "the image's page, punched");
	plt_expect_err(plt_zeropage(uffd, mem + 2 * PLT_PAGE, PLT_PAGE, 0, NULL), 0, "ZEROPAGE");
	plt_expect_value(t, 0, "the image's page, punched");
	plt_pass();
}
