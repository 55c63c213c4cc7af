/* SPDX-License-Identifier: MIT */
/*
 * Reclaim takes pages of shared memory out of the page tables, where there is no swap to
 * write them to, too: they stay in the cache, no event tells, pages that were installed
 * fault again, as minor, and CONTINUE installs them again.  Here by MADV_PAGEOUT; DAMON
 * and memory.reclaim go the same way, whenever they like.
 */
#include "platform.h"

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif

#define NR_PAGES 64u

/* The first page that has no entry; NR_PAGES: all have one. */
static uint64_t first_taken(const uint8_t *mem)
{
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	uint64_t entries[NR_PAGES];
	uint64_t page = 0;

	if (fd < 0)
		plt_skip("/proc/self/pagemap: %s", strerror(errno));
	PLT_CHECK(pread(fd, entries, sizeof(entries),
			(off_t)((uint64_t)(uintptr_t)mem / PLT_PAGE * sizeof(*entries))) ==
			  (ssize_t)sizeof(entries),
		  "reading /proc/self/pagemap: %s", strerror(errno));
	(void)close(fd);
	while (page < NR_PAGES && entries[page] >> 63)
		page++;
	return page;
}

int main(void)
{
	struct plt_task task = { .fn = plt_do_madvise,
				 .len = NR_PAGES * PLT_PAGE,
				 .arg = MADV_PAGEOUT };
	struct plt_toucher *t;
	uint64_t taken;
	uint8_t *mem;
	int err;
	int fd;
	int uffd;

	plt_init();
	uffd = plt_uffd(UFFD_FEATURE_MINOR_SHMEM | UFFD_FEATURE_EVENT_REMOVE);
	fd = plt_memfd(PLT_BLOCK);
	plt_fill(fd, 0, NR_PAGES, 0x77);
	mem = plt_map(fd, PLT_BLOCK, MAP_SHARED);
	plt_register(uffd, mem, PLT_BLOCK, PLT_BOTH);
	plt_expect_err(plt_continue(uffd, mem, NR_PAGES * PLT_PAGE, 0, NULL), 0, "CONTINUE");

	task.addr = mem;
	plt_task_start(&task);
	err = plt_task_wait(&task, "MADV_PAGEOUT");
	if (err)
		plt_skip("MADV_PAGEOUT of shmem: %s", strerror(err));
	plt_expect_no_message(uffd, "MADV_PAGEOUT");
	taken = first_taken(mem);
	if (taken == NR_PAGES)
		plt_skip("this kernel has left all of %u pages in the page tables", NR_PAGES);
	t = plt_touch_read(mem + taken * PLT_PAGE);
	plt_wait_blocked(t, "an installed page after reclaim");
	plt_expect_fault(uffd, mem + taken * PLT_PAGE, true, "an installed page after reclaim");
	plt_expect_err(plt_continue(uffd, mem + taken * PLT_PAGE, PLT_PAGE, 0, NULL), 0,
		       "CONTINUE after reclaim");
	plt_expect_value(t, 0x77, "contents after reclaim");
	plt_pass();
}
