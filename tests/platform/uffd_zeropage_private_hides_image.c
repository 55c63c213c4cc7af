/* SPDX-License-Identifier: MIT */
/*
 * In a private mapping of an image ZEROPAGE costs no page of the image, and it
 * does not look at the page cache: it maps zeros over contents that are filled,
 * without an error.  Only the image's state may permit it there.
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
	fd = plt_memfd(8 * PLT_PAGE);
	plt_fill(fd, 4, 1, 0x82);
	alias = plt_map(fd, 8 * PLT_PAGE, MAP_SHARED);
	mem = plt_map(fd, 8 * PLT_PAGE, MAP_PRIVATE);
	plt_register_need(uffd, mem, 8 * PLT_PAGE, PLT_BOTH, _UFFDIO_ZEROPAGE, "UFFDIO_ZEROPAGE");
	t = plt_touch_read(mem);
	plt_expect_fault(uffd, mem, false, "fault on a hole");
	plt_expect_err(plt_zeropage(uffd, mem, 4 * PLT_PAGE, 0, NULL), 0, "ZEROPAGE of 4 holes");
	plt_expect_value(t, 0, "the waiter on the hole");
	PLT_CHECK(plt_cached_pages(fd) == 1, "expected no page added to the image, saw %llu in all",
		  (unsigned long long)plt_cached_pages(fd));
	plt_expect_write(mem, 1, "write of a zero page");
	PLT_CHECK(!plt_cached(fd, 0), "expected a private copy, saw a page in the image");

	plt_expect_err(plt_zeropage(uffd, mem + 4 * PLT_PAGE, PLT_PAGE, 0, NULL), 0,
		       "ZEROPAGE of a page that is in the cache");
	plt_expect_read(mem + 4 * PLT_PAGE, 0, "the private mapping");
	plt_expect_read(alias + 4 * PLT_PAGE, 0x82, "the image");
	plt_pass();
}
