/* SPDX-License-Identifier: MIT */
/*
 * POISON markers outlive UNREGISTER and close: a touch gets SIGBUS, and no page
 * comes into the image.  MADV_DONTNEED clears a marker.  This is how the engine
 * fails closed.
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
	plt_fill(fd, 4, 4, 0x72);
	mem = plt_map(fd, 8 * PLT_PAGE, MAP_SHARED);
	plt_poisonable(uffd, mem, 8 * PLT_PAGE, PLT_BOTH);

	plt_expect_err(plt_poison(uffd, mem, 6 * PLT_PAGE, 0, &updated), 0, "POISON");
	PLT_CHECK(updated == 6 * (int64_t)PLT_PAGE, "expected 6 pages updated, saw %lld bytes",
		  (long long)updated);
	PLT_CHECK(plt_cached_pages(fd) == 4, "expected that POISON allocates nothing, saw %llu",
		  (unsigned long long)plt_cached_pages(fd));
	t = plt_touch_read(mem);
	plt_expect_end(t, PLT_SIGBUS, "touch of a poisoned hole");
	plt_note("SIGBUS si_code %d (BUS_ADRERR is 2, BUS_MCEERR_AR is 4)", t->sig_code);
	plt_expect_end(plt_touch_write(mem + 4 * PLT_PAGE, 1), PLT_SIGBUS,
		       "touch of a poisoned page that is cached");
	plt_expect_no_message(uffd, "touches of poisoned pages");

	plt_expect_err(plt_unregister(uffd, mem, PLT_PAGE), 0, "UNREGISTER");
	plt_expect_end(plt_touch_read(mem), PLT_SIGBUS, "unregistered: a poisoned page");
	close(uffd);
	plt_expect_end(plt_touch_read(mem + PLT_PAGE), PLT_SIGBUS, "closed: a poisoned hole");
	plt_expect_end(plt_touch_read(mem + 5 * PLT_PAGE), PLT_SIGBUS, "closed: a poisoned page");
	PLT_CHECK(plt_cached_pages(fd) == 4, "expected no new page in the image, saw %llu in all",
		  (unsigned long long)plt_cached_pages(fd));
	plt_expect_read(mem + 6 * PLT_PAGE, 0x72, "closed: a page that was not poisoned");

	PLT_CHECK(madvise(mem + 5 * PLT_PAGE, PLT_PAGE, MADV_DONTNEED) == 0, "MADV_DONTNEED: %s",
		  strerror(errno));
	plt_expect_read(mem + 5 * PLT_PAGE, 0x72, "a marker that MADV_DONTNEED cleared");
	plt_pass();
}
