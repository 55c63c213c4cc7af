/* SPDX-License-Identifier: MIT */
/*
 * A CONTINUE that reaches into the range of another userfaultfd is refused with
 * ENOENT and maps nothing, so an install never crosses a stripe.
 */
#include "platform.h"

int main(void)
{
	struct plt_toucher *t;
	int64_t mapped;
	uint8_t *mem;
	uint8_t *edge;
	int fd;
	int uffd[2];

	plt_init();
	uffd[0] = plt_uffd(UFFD_FEATURE_MINOR_SHMEM);
	uffd[1] = plt_uffd(UFFD_FEATURE_MINOR_SHMEM);
	fd = plt_memfd(2 * PLT_BLOCK);
	plt_fill(fd, 0, 2 * PLT_BLOCK / PLT_PAGE, 0x21);
	mem = plt_map(fd, 2 * PLT_BLOCK, MAP_SHARED);
	plt_register(uffd[0], mem, PLT_BLOCK, PLT_BOTH);
	plt_register(uffd[1], mem + PLT_BLOCK, PLT_BLOCK, PLT_BOTH);

	edge = mem + PLT_BLOCK - PLT_PAGE;
	plt_expect_err(plt_continue(uffd[0], edge, 2 * PLT_PAGE, 0, &mapped), ENOENT,
		       "CONTINUE across two userfaultfds");
	PLT_CHECK(mapped <= 0, "expected nothing mapped, saw %lld", (long long)mapped);
	t = plt_touch_read(edge);
	plt_expect_fault(uffd[0], edge, true, "the page before the edge is still not mapped");
	plt_expect_err(plt_continue(uffd[0], edge, PLT_PAGE, 0, NULL), 0,
		       "CONTINUE up to the edge");
	plt_expect_value(t, 0x21, "the page before the edge");
	plt_pass();
}
