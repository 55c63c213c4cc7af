/* SPDX-License-Identifier: MIT */
/*
 * UFFDIO_WRITEPROTECT of a private mapping of a memfd: a thread that writes to the page of
 * zeros there waits, and goes on after the protection is lifted, with a copy of its own.
 * /proc/self/pagemap calls a page that is protected and not mapped swapped out; lifting the
 * protection undoes that.  Kernels before 5.19 refuse to register such a mapping for it.
 */
#include "platform.h"

#define SWAPPED (UINT64_C(1) << 62)

static int protect(int uffd, uint8_t *mem, uint64_t len, bool on)
{
	struct uffdio_writeprotect arg = {
		.range = { .start = (uintptr_t)mem, .len = len },
		.mode = on ? UFFDIO_WRITEPROTECT_MODE_WP : 0,
	};

	return ioctl(uffd, UFFDIO_WRITEPROTECT, &arg) == 0 ? 0 : errno;
}

static bool is_swapped(const uint8_t *at)
{
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	uint64_t entry = 0;

	if (fd < 0)
		plt_skip("/proc/self/pagemap: %s", strerror(errno));
	PLT_CHECK(pread(fd, &entry, sizeof(entry),
			(off_t)((uintptr_t)at / PLT_PAGE * sizeof(entry))) ==
			  (ssize_t)sizeof(entry),
		  "reading /proc/self/pagemap: %s", strerror(errno));
	(void)close(fd);
	return entry & SWAPPED;
}

int main(void)
{
	struct uffdio_register arg = { .mode = PLT_BOTH | UFFDIO_REGISTER_MODE_WP };
	struct plt_toucher *t;
	uint8_t *mem;
	int uffd, fd;

	plt_init();
	uffd = plt_uffd(UFFD_FEATURE_MINOR_SHMEM);
	fd = plt_memfd(PLT_BLOCK);
	mem = plt_map(fd, PLT_BLOCK, MAP_PRIVATE);
	plt_register(uffd, mem, PLT_BLOCK, PLT_BOTH);
	plt_expect_err(plt_zeropage(uffd, mem, PLT_PAGE, 0, NULL), 0, "ZEROPAGE");
	arg.range.start = (uintptr_t)mem;
	arg.range.len = PLT_BLOCK;
	if (ioctl(uffd, UFFDIO_REGISTER, &arg) != 0)
		plt_skip("this kernel protects no private mapping of a memfd: %s", strerror(errno));
	plt_expect_err(protect(uffd, mem, PLT_BLOCK, true), 0, "WRITEPROTECT");
	PLT_CHECK(is_swapped(mem + 5 * PLT_PAGE), "a page that is not mapped has no marker");
	t = plt_touch_write(mem, 7);
	PLT_CHECK(plt_poll(uffd, PLT_WAIT_MS), "waited 8 s for the message of a write, saw none");
	plt_expect_asleep(t, "a write to the page of zeros");
	plt_expect_err(protect(uffd, mem, PLT_BLOCK, false), 0, "lifting it");
	plt_expect_end(t, PLT_DONE, "the write, after that");
	PLT_CHECK(!(is_swapped(mem + 5 * PLT_PAGE)), "the marker has stayed");
	plt_pass();
}
