/* SPDX-License-Identifier: MIT */
/*
 * One CONTINUE maps a whole range of a shared mapping, and maps it writable:
 * neither the later reads nor the later writes fault.
 */
#include "platform.h"

enum {
	NR = 512
};

int main(void)
{
	int64_t mapped;
	uint8_t *mem;
	int fd;
	int uffd;

	plt_init();
	uffd = plt_uffd(UFFD_FEATURE_MINOR_SHMEM);
	fd = plt_memfd(NR * PLT_PAGE);
	plt_fill(fd, 0, NR, 0x5a);
	mem = plt_map(fd, NR * PLT_PAGE, MAP_SHARED);
	plt_register_need(uffd, mem, NR * PLT_PAGE, PLT_BOTH, _UFFDIO_CONTINUE, "UFFDIO_CONTINUE");

	plt_expect_err(plt_continue(uffd, mem, NR * PLT_PAGE, 0, &mapped), 0, "CONTINUE of 2 MiB");
	PLT_CHECK(mapped == NR * (int64_t)PLT_PAGE, "CONTINUE: expected mapped = 2 MiB, saw %lld",
		  (long long)mapped);
	for (uint64_t i = 0; i < NR; i += 73) {
		plt_expect_write(mem + i * PLT_PAGE + 1, 0x33, "write after CONTINUE");
		plt_expect_read(mem + i * PLT_PAGE, 0x5a, "read after CONTINUE");
	}
	plt_expect_no_message(uffd, "a mapped range");
	plt_pass();
}
