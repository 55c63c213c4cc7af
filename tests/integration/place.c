/* SPDX-License-Identifier: MIT */
#include "tests/integration/place.h"

#include "tests/integration/harness.h"

#include <dlfcn.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static struct place {
	uintptr_t addr;
	size_t len;
} place;

void place_keep(void *addr, size_t len)
{
	CHECK(place.len == 0, "another place is kept");
	place = (struct place){ (uintptr_t)addr, len };
}

static int (*next_munmap)(void *, size_t);

/* Before any thread is there that could unmap. */
__attribute__((constructor)) static void find_munmap(void)
{
	*(void **)&next_munmap = dlsym(RTLD_NEXT, "munmap");
}

void place_give_back(void)
{
	struct place was = place;

	place.len = 0;
	if (was.len)
		CHECK(next_munmap((void *)was.addr, was.len) == 0, "munmap: %s", strerror(errno));
}

static bool is_kept(uintptr_t addr, size_t len)
{
	return place.len && addr >= place.addr && len <= place.len &&
	       addr - place.addr <= place.len - len;
}

/*
 * In place of the C library's, for the library under test, too.  By the system call:
 * ThreadSanitizer takes mmap() for a write, which races with threads that touch what ends.
 */
int munmap(void *addr, size_t len)
{
	if (!next_munmap)
		find_munmap();
	if (!is_kept((uintptr_t)addr, len))
		return next_munmap(addr, len);
	return syscall(SYS_mmap, addr, len, PROT_NONE,
		       MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0L) == -1
		       ? -1
		       : 0;
}
