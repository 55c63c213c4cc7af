/* SPDX-License-Identifier: MIT */
/*
 * POISON takes 256 MiB in one call, holes and all, and needs no memory but page
 * tables: stopping a guest is affordable.  What it costs per page is printed.
 */
#include "platform.h"

enum {
	MIB = 256
};

int main(void)
{
	const uint64_t bytes = (uint64_t)MIB << 20;
	const double pages = (double)bytes / (double)PLT_PAGE;
	int64_t updated;
	uint64_t ns[2];
	uint8_t *mem;
	int fd;
	int uffd;

	plt_init();
	uffd = plt_uffd(UFFD_FEATURE_MINOR_SHMEM | UFFD_FEATURE_POISON);
	fd = plt_memfd(bytes);
	mem = plt_map(fd, bytes, MAP_SHARED);
	plt_poisonable(uffd, mem, bytes, PLT_BOTH);
	for (int i = 0; i < 2; i++) {
		ns[i] = plt_now_ns();
		plt_expect_err(plt_poison(uffd, mem, bytes, 0, &updated), 0, "POISON of 256 MiB");
		ns[i] = plt_now_ns() - ns[i];
		PLT_CHECK(updated == (int64_t)bytes, "expected all updated, saw %lld bytes",
			  (long long)updated);
		if (i == 0)
			PLT_CHECK(madvise(mem, bytes, MADV_DONTNEED) == 0, "MADV_DONTNEED: %s",
				  strerror(errno));
	}
	PLT_CHECK(plt_cached_pages(fd) == 0, "expected no page in the image, saw %llu",
		  (unsigned long long)plt_cached_pages(fd));
	plt_expect_end(plt_touch_read(mem + bytes - 1), PLT_SIGBUS, "the last page");
	plt_note("POISON of %d MiB: %.1f ns per page (first, with page tables to make), %.1f ns "
		 "(again)",
		 MIB, (double)ns[0] / pages, (double)ns[1] / pages);
	plt_pass();
}
