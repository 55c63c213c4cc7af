/* SPDX-License-Identifier: MIT */
/*
 * MADV_REMOVE on a shared mapping raises REMOVE and takes the page out of the
 * cache: it faults as missing afterwards, in every mapping, and zero is due.  On
 * a private mapping it is refused with EACCES.
 */
#include "platform.h"

int main(void)
{
	struct plt_toucher *t;
	uint8_t *twin;
	uint8_t *own;
	uint8_t *mem;
	int fd;
	int uffd;
	int uffd_twin;

	plt_init();
	uffd = plt_uffd(UFFD_FEATURE_MINOR_SHMEM | UFFD_FEATURE_EVENT_REMOVE);
	uffd_twin = plt_uffd(UFFD_FEATURE_MINOR_SHMEM | UFFD_FEATURE_EVENT_REMOVE);
	fd = plt_memfd(4 * PLT_PAGE);
	plt_fill(fd, 0, 4, 0x64);
	mem = plt_map(fd, 4 * PLT_PAGE, MAP_SHARED);
	twin = plt_map(fd, 4 * PLT_PAGE, MAP_SHARED);
	own = plt_map(fd, 4 * PLT_PAGE, MAP_PRIVATE);
	plt_register(uffd, mem, 4 * PLT_PAGE, PLT_BOTH);
	plt_register(uffd_twin, twin, 4 * PLT_PAGE, PLT_BOTH);
	plt_expect_err(plt_continue(uffd, mem, 4 * PLT_PAGE, 0, NULL), 0, "CONTINUE");
	plt_expect_err(plt_continue(uffd_twin, twin, 4 * PLT_PAGE, 0, NULL), 0, "CONTINUE");

	plt_madvise_served(uffd, mem + PLT_PAGE, PLT_PAGE, MADV_REMOVE);
	PLT_CHECK(!plt_cached(fd, 1), "expected the page to leave the cache, saw it there");
	plt_expect_no_message(uffd_twin, "MADV_REMOVE through another mapping");
	t = plt_touch_read(mem + PLT_PAGE);
	plt_expect_fault(uffd, mem + PLT_PAGE, false, "touch after MADV_REMOVE");
	plt_touch_read(twin + PLT_PAGE);
	plt_expect_fault(uffd_twin, twin + PLT_PAGE, false, "the same in the other mapping");
	plt_expect_err(plt_zeropage(uffd, mem + PLT_PAGE, PLT_PAGE, 0, NULL), 0, "ZEROPAGE");
	plt_expect_value(t, 0, "contents after MADV_REMOVE");

	plt_expect_err(madvise(own, PLT_PAGE, MADV_REMOVE) == 0 ? 0 : errno, EACCES,
		       "MADV_REMOVE on a private mapping");
	plt_pass();
}
