/* SPDX-License-Identifier: MIT */
/*
 * A range belongs to one userfaultfd: a second one gets EBUSY, also for a range
 * that only overlaps, and the first goes on serving.  The same one may register
 * again.
 */
#include "platform.h"

int main(void)
{
	uint8_t *mem;
	int uffd[2];
	int fd;

	plt_init();
	uffd[0] = plt_uffd(UFFD_FEATURE_MINOR_SHMEM);
	uffd[1] = plt_uffd(UFFD_FEATURE_MINOR_SHMEM);
	fd = plt_memfd(4 * PLT_PAGE);
	mem = plt_map(fd, 4 * PLT_PAGE, MAP_SHARED);
	plt_register(uffd[0], mem, 2 * PLT_PAGE, PLT_BOTH);
	plt_expect_err(plt_register_try(uffd[1], mem, 2 * PLT_PAGE, PLT_BOTH, NULL), EBUSY,
		       "REGISTER of a range that another userfaultfd has");
	plt_expect_err(plt_register_try(uffd[1], mem, 4 * PLT_PAGE, PLT_BOTH, NULL), EBUSY,
		       "REGISTER of a range that overlaps another's");
	plt_expect_err(plt_register_try(uffd[0], mem, 2 * PLT_PAGE, PLT_BOTH, NULL), 0,
		       "REGISTER again by the same userfaultfd");
	plt_touch_read(mem + PLT_PAGE);
	plt_expect_fault(uffd[0], mem + PLT_PAGE, false, "the first userfaultfd");
	plt_expect_read(mem + 3 * PLT_PAGE, 0, "what an overlap that failed left unregistered");
	plt_pass();
}
