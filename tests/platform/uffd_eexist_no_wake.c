/* SPDX-License-Identifier: MIT */
/*
 * A COPY that loses the race gets EEXIST, wakes nobody, and changes no contents:
 * the thread that waits for the page sleeps until somebody issues WAKE.
 */
#include "platform.h"

static uint8_t ones[4096];
static uint8_t twos[4096];

static void lose(const char *kind, uint8_t *mem)
{
	struct plt_toucher *t;
	int uffd = plt_uffd(UFFD_FEATURE_MISSING_SHMEM);

	plt_register(uffd, mem, PLT_BLOCK, PLT_MISSING);
	t = plt_touch_read(mem);
	plt_expect_fault(uffd, mem, false, kind);
	plt_expect_err(plt_copy(uffd, mem, ones, PLT_PAGE, UFFDIO_COPY_MODE_DONTWAKE, NULL), 0,
		       "first COPY");
	plt_expect_err(plt_copy(uffd, mem, twos, PLT_PAGE, 0, NULL), EEXIST, "second COPY");
	plt_expect_asleep(t, kind);
	plt_expect_err(plt_wake(uffd, mem, PLT_PAGE), 0, "WAKE");
	plt_expect_value(t, 1, kind);
	close(uffd);
}

int main(void)
{
	plt_init();
	memset(ones, 1, sizeof(ones));
	memset(twos, 2, sizeof(twos));
	lose("private anonymous memory", plt_map(-1, PLT_BLOCK, MAP_PRIVATE | MAP_ANONYMOUS));
	lose("shared memfd", plt_map(plt_memfd(PLT_BLOCK), PLT_BLOCK, MAP_SHARED));
	plt_pass();
}
