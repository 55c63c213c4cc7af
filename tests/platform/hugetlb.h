/* SPDX-License-Identifier: MIT */
/* What the platform tests of huge pages share. */
#ifndef FLN_TESTS_PLATFORM_HUGETLB_H
#define FLN_TESTS_PLATFORM_HUGETLB_H

#include "platform.h"
#include "tests/support/hugepages.h"

#define HUGETLB_FEATURES \
	(UFFD_FEATURE_MISSING_HUGETLBFS | UFFD_FEATURE_MINOR_HUGETLBFS | UFFD_FEATURE_EVENT_REMOVE)

/* In place of plt_init(): @nr_pages huge pages are free, or the test is skipped. */
static inline void hugetlb_init(uint64_t nr_pages)
{
	const char *why = hugepages_take(nr_pages);

	if (why)
		plt_skip("%s", why);
	plt_init();
}

static inline int hugetlb_memfd(uint64_t blocks)
{
	int fd = memfd_create("hugetlb", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_HUGETLB |
						 (21U << 26) /* MFD_HUGE_2MB */);

	if (fd < 0 || ftruncate(fd, (off_t)(blocks * PLT_BLOCK)) != 0)
		plt_fail("a memfd of huge pages: %s", strerror(errno));
	return fd;
}

static inline void hugetlb_allocate(int fd, uint64_t block)
{
	if (fallocate(fd, 0, (off_t)(block * PLT_BLOCK), (off_t)PLT_BLOCK) != 0)
		plt_fail("fallocate of a huge page: %s", strerror(errno));
}

#endif
