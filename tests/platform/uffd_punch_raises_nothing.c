/* SPDX-License-Identifier: MIT */
/*
 * A hole punched through the descriptor takes pages away that are mapped, and
 * raises no event: the next touch is a missing fault on a page that a map of
 * present pages still calls present.
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
	plt_fill(fd, 0, 4, 0x61);
	mem = plt_map(fd, 4 * PLT_PAGE, MAP_SHARED);
	plt_register(uffd, mem, 4 * PLT_PAGE, PLT_BOTH);
	plt_expect_err(plt_continue(uffd, mem, 4 * PLT_PAGE, 0, NULL), 0, "CONTINUE");
	plt_expect_read(mem + PLT_PAGE, 0x61, "before the punch");

	PLT_CHECK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)PLT_PAGE,
			    (off_t)PLT_PAGE) == 0,
		  "PUNCH_HOLE: %s", strerror(errno));
	plt_expect_no_message(uffd, "PUNCH_HOLE");
	PLT_CHECK(!plt_cached(fd, 1), "expected the punched page to be gone, saw it in the cache");
	t = plt_touch_read(mem + PLT_PAGE);
	plt_expect_fault(uffd, mem + PLT_PAGE, false, "touch of a punched page");
	plt_expect_err(plt_zeropage(uffd, mem + PLT_PAGE, PLT_PAGE, 0, NULL), 0, "ZEROPAGE");
	plt_expect_value(t, 0, "the punched page");
	plt_expect_read(mem, 0x61, "the page before the hole");
	plt_pass();
}
