/* SPDX-License-Identifier: MIT */
/*
 * ZEROPAGE on a hole of a shared mapping allocates a page of the image; where the
 * cache has a page it fails with EEXIST and never overwrites contents.
 */
#include "platform.h"

int main(void)
{
	struct plt_toucher *t;
	int64_t done;
	uint8_t *mem;
	int fd;
	int uffd;

	plt_init();
	uffd = plt_uffd(UFFD_FEATURE_MINOR_SHMEM);
	fd = plt_memfd(8 * PLT_PAGE);
	plt_fill(fd, 4, 1, 0x81);
	mem = plt_map(fd, 8 * PLT_PAGE, MAP_SHARED);
	plt_register_need(uffd, mem, 8 * PLT_PAGE, PLT_BOTH, _UFFDIO_ZEROPAGE, "UFFDIO_ZEROPAGE");
	t = plt_touch_read(mem);
	plt_expect_fault(uffd, mem, false, "fault on a hole");

	plt_expect_err(plt_zeropage(uffd, mem, 8 * PLT_PAGE, 0, &done), EAGAIN,
		       "ZEROPAGE of 8 pages, the fifth in the cache");
	PLT_CHECK(done == 4 * (int64_t)PLT_PAGE, "expected 4 pages, saw %lld bytes",
		  (long long)done);
	plt_expect_value(t, 0, "the waiter on the hole");
	PLT_CHECK(plt_cached_pages(fd) == 5,
		  "expected 4 pages of zeros added to the image (5 in all), saw %llu",
		  (unsigned long long)plt_cached_pages(fd));
	t = plt_touch_read(mem + 4 * PLT_PAGE);
	plt_expect_fault(uffd, mem + 4 * PLT_PAGE, true, "fault on the cached page");
	plt_expect_err(plt_zeropage(uffd, mem + 4 * PLT_PAGE, PLT_PAGE, 0, &done), EEXIST,
		       "ZEROPAGE of a page that is in the cache and not mapped");
	plt_expect_asleep(t, "EEXIST from ZEROPAGE wakes nobody");
	plt_expect_err(plt_continue(uffd, mem + 4 * PLT_PAGE, PLT_PAGE, 0, NULL), 0, "CONTINUE");
	plt_expect_value(t, 0x81, "contents after a ZEROPAGE that failed");
	plt_pass();
}
