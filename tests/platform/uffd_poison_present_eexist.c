/* SPDX-License-Identifier: MIT */
/*
 * POISON leaves present pages alone: EEXIST, and the contents stay.  Over a range
 * it stops there, and says with EAGAIN how far it came.  A page that is poisoned
 * already counts as present.
 */
#include "platform.h"

int main(void)
{
	struct plt_toucher *t;
	int64_t updated;
	uint8_t *mem;
	int fd;
	int uffd;

	plt_init();
	uffd = plt_uffd(UFFD_FEATURE_MINOR_SHMEM | UFFD_FEATURE_POISON);
	fd = plt_memfd(8 * PLT_PAGE);
	plt_fill(fd, 0, 8, 0x74);
	mem = plt_map(fd, 8 * PLT_PAGE, MAP_SHARED);
	plt_poisonable(uffd, mem, 8 * PLT_PAGE, PLT_BOTH);
	t = plt_touch_read(mem + 2 * PLT_PAGE);
	plt_expect_fault(uffd, mem + 2 * PLT_PAGE, true, "fault");
	plt_expect_err(plt_continue(uffd, mem + 2 * PLT_PAGE, PLT_PAGE,
				    UFFDIO_CONTINUE_MODE_DONTWAKE, NULL),
		       0, "CONTINUE");

	plt_expect_err(plt_poison(uffd, mem, 8 * PLT_PAGE, 0, &updated), EAGAIN,
		       "POISON of 8 pages, the third present");
	PLT_CHECK(updated == 2 * (int64_t)PLT_PAGE, "expected 2 pages updated, saw %lld bytes",
		  (long long)updated);
	plt_expect_err(plt_poison(uffd, mem + 2 * PLT_PAGE, PLT_PAGE, 0, &updated), EEXIST,
		       "POISON of a present page");
	plt_expect_asleep(t, "EEXIST from POISON wakes nobody");
	plt_expect_err(plt_wake(uffd, mem + 2 * PLT_PAGE, PLT_PAGE), 0, "WAKE");
	plt_expect_value(t, 0x74, "the present page");
	plt_expect_err(plt_poison(uffd, mem, PLT_PAGE, 0, &updated), EEXIST,
		       "POISON of a poisoned page");
	plt_expect_end(plt_touch_read(mem), PLT_SIGBUS, "the page that is poisoned already");
	plt_pass();
}
