/* SPDX-License-Identifier: MIT */
/*
 * F_SEAL_SHRINK can be added to a memfd that is mapped writable, and then nobody
 * can make it shorter; holes can still be punched.  Without MFD_ALLOW_SEALING it
 * cannot be added (EPERM).
 */
#include "platform.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

int main(void)
{
	int open_fd = memfd_create("open", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int shut_fd = memfd_create("shut", MFD_CLOEXEC);
	uint8_t *mem;

	if (open_fd < 0 || shut_fd < 0 || ftruncate(open_fd, 4 * PLT_PAGE) != 0)
		plt_fail("memfds: %s", strerror(errno));
	plt_fill(open_fd, 0, 4, 0x45);
	mem = plt_map(open_fd, 4 * PLT_PAGE, MAP_SHARED);
	plt_expect_write(mem, 0x46, "a mapped memfd");
	if (fcntl(open_fd, F_ADD_SEALS, F_SEAL_SHRINK) != 0)
		plt_fail("the seal, while mapped: %s", strerror(errno));
	if (ftruncate(open_fd, 2 * PLT_PAGE) == 0 || errno != EPERM)
		plt_fail("a sealed memfd was made shorter");
	if (fallocate(open_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, PLT_PAGE, PLT_PAGE) != 0)
		plt_fail("a hole in a sealed memfd: %s", strerror(errno));
	plt_expect_read(mem + PLT_PAGE, 0, "the hole");
	plt_expect_read(mem + 2 * PLT_PAGE, 0x45, "behind the hole");
	if (fcntl(shut_fd, F_ADD_SEALS, F_SEAL_SHRINK) == 0 || errno != EPERM)
		plt_fail("a memfd without MFD_ALLOW_SEALING was sealed");
	plt_pass();
}
