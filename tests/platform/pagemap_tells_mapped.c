/* SPDX-License-Identifier: MIT */
/*
 * /proc/self/pagemap tells, without privilege, which pages have an entry in the page
 * tables: after CONTINUE they do; not before, not once a hole was punched behind our
 * back.  Poison is told from nothing: it looks as what has been swapped out does.
 */
#include "platform.h"

static uint64_t entry_of(int pagemap, const void *addr)
{
	uint64_t entry = 0;
	off_t at = (off_t)((uint64_t)(uintptr_t)addr / PLT_PAGE * sizeof(entry));

	PLT_CHECK(pread(pagemap, &entry, sizeof(entry), at) == (ssize_t)sizeof(entry),
		  "reading /proc/self/pagemap: %s", strerror(errno));
	return entry;
}

static bool is_present(int pagemap, const void *addr)
{
	return entry_of(pagemap, addr) >> 63;
}

/* Neither present nor swapped. */
static bool is_empty(int pagemap, const void *addr)
{
	return entry_of(pagemap, addr) >> 62 == 0;
}

int main(void)
{
	uint8_t *mem;
	int fd;
	int map;
	int uffd;

	plt_init();
	map = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	if (map < 0)
		plt_skip("/proc/self/pagemap: %s", strerror(errno));
	uffd = plt_uffd(UFFD_FEATURE_MINOR_SHMEM);
	fd = plt_memfd(PLT_BLOCK);
	plt_fill(fd, 0, 8, 0x51);
	mem = plt_map(fd, PLT_BLOCK, MAP_SHARED);
	plt_register(uffd, mem, PLT_BLOCK, PLT_BOTH);
	PLT_CHECK(!is_present(map, mem), "a page in the cache that nobody mapped is present");
	plt_expect_err(plt_continue(uffd, mem, 4 * PLT_PAGE, 0, NULL), 0, "CONTINUE");
	PLT_CHECK(is_present(map, mem + 3 * PLT_PAGE), "a page that CONTINUE mapped is absent");
	PLT_CHECK(!is_present(map, mem + 4 * PLT_PAGE), "its neighbour is present");
	PLT_CHECK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)PLT_PAGE,
			    (off_t)PLT_PAGE) == 0,
		  "punching: %s", strerror(errno));
	PLT_CHECK(!is_present(map, mem + PLT_PAGE), "a page that was punched out is present");
	PLT_CHECK(is_present(map, mem), "and its neighbour is absent");
	PLT_CHECK(is_empty(map, mem + PLT_PAGE) && is_empty(map, mem + 6 * PLT_PAGE),
		  "what has been punched, or was never mapped, is not empty");
	if (plt_poison(uffd, mem + 6 * PLT_PAGE, PLT_PAGE, 0, NULL) == 0)
		PLT_CHECK(!is_present(map, mem + 6 * PLT_PAGE) &&
				  !is_empty(map, mem + 6 * PLT_PAGE),
			  "poison is present, or nothing");
	plt_pass();
}
