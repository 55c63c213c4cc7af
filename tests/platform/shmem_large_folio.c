/* SPDX-License-Identifier: MIT */
/*
 * A write fault of one page of an aligned mapping of shmem that is advised MADV_HUGEPAGE allocates
 * all 2 MiB, as zeros; pwrite() into the same file does not.  In a mapping that is registered
 * MISSING | MINOR its pages are minor faults, and nothing of them is seen before CONTINUE.  A
 * part can be punched out: it reads zero, and the rest stays in the page cache, but may have to be
 * mapped again.
 */
#include "platform.h"

#include <linux/userfaultfd.h>

enum {
	PAGES = 512
};

static void populate(uint8_t *at)
{
	PLT_CHECK(madvise(at, PLT_PAGE, MADV_POPULATE_WRITE) == 0, "MADV_POPULATE_WRITE: %s",
		  strerror(errno));
}

int main(void)
{
	struct plt_toucher *t;
	uint8_t *alias, *mem;
	int fd, uffd;

	plt_init();
	fd = plt_memfd(4 * PLT_BLOCK);
	alias = plt_map(fd, 4 * PLT_BLOCK, MAP_SHARED);
	PLT_CHECK(madvise(alias, 4 * PLT_BLOCK, MADV_HUGEPAGE) == 0, "MADV_HUGEPAGE: %s",
		  strerror(errno));
	populate(alias + 5 * PLT_PAGE);
	if (plt_cached_pages(fd) == 1)
		plt_skip("no large folio: shmem_enabled, or no 2 MiB of memory in one piece");
	PLT_CHECK(plt_cached_pages(fd) == PAGES, "%llu pages in the page cache, expected %d",
		  (unsigned long long)plt_cached_pages(fd), PAGES);
	plt_fill(fd, 2 * PAGES, 1, 7);
	PLT_CHECK(plt_cached_pages(fd) == PAGES + 1, "pwrite() of a page allocated more");

	mem = plt_map(fd, 4 * PLT_BLOCK, MAP_SHARED);
	uffd = plt_uffd(0);
	plt_register(uffd, mem, 4 * PLT_BLOCK, PLT_BOTH);
	t = plt_touch_read(mem + 9 * PLT_PAGE);
	plt_expect_fault(uffd, mem + 9 * PLT_PAGE, true, "a page of a large folio");
	alias[9 * PLT_PAGE] = 42; /* filled in place meanwhile */
	plt_expect_asleep(t, "the page is in the page cache, and not mapped");
	plt_expect_err(plt_continue(uffd, mem + 9 * PLT_PAGE, PLT_PAGE, 0, NULL), 0,
		       "CONTINUE of a page of a large folio");
	plt_expect_value(t, 42, "a page of a large folio");
	PLT_CHECK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)PLT_PAGE,
			    (off_t)(4 * PLT_PAGE)) == 0,
		  "fallocate: %s", strerror(errno));
	alias[PLT_PAGE - 1] = 3;
	for (uint64_t i = PLT_PAGE; i < 5 * PLT_PAGE; i += 512) {
		uint8_t byte = 1;

		PLT_CHECK(pread(fd, &byte, 1, (off_t)i) == 1 && byte == 0, "byte %llu is %u",
			  (unsigned long long)i, byte);
	}
	t = plt_touch_read(mem + 9 * PLT_PAGE);
	/* The folio was split, and its pages are not mapped any more. */
	if (plt_touch_wait(t, PLT_QUIET_MS) == PLT_PENDING) {
		plt_expect_fault(uffd, mem + 9 * PLT_PAGE, true, "a page beside those punched out");
		plt_expect_err(plt_continue(uffd, mem + 9 * PLT_PAGE, PLT_PAGE, 0, NULL), 0,
			       "CONTINUE of it");
	}
	plt_expect_value(t, 42, "a page beside those punched out");
	PLT_CHECK(plt_cached(fd, PAGES - 1), "the rest left the page cache");
	plt_pass();
}
