/* SPDX-License-Identifier: MIT */
/*
 * MADV_COLLAPSE through one mapping takes page-table entries away in another:
 * pages that were installed there fault again, as minor, without an event, and
 * CONTINUE installs them again with their contents.
 */
#include "platform.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

int main(void)
{
	struct plt_task task = { .fn = plt_do_madvise, .len = PLT_BLOCK, .arg = MADV_COLLAPSE };
	struct plt_toucher *t;
	int64_t mapped;
	uint8_t *alias;
	uint8_t *mem;
	int err;
	int fd;
	int uffd;

	plt_init();
	uffd = plt_uffd(UFFD_FEATURE_MINOR_SHMEM | UFFD_FEATURE_EVENT_REMOVE);
	fd = plt_memfd(PLT_BLOCK);
	plt_fill(fd, 0, 512, 0x93);
	mem = plt_map(fd, PLT_BLOCK, MAP_SHARED);
	alias = plt_map(fd, PLT_BLOCK, MAP_SHARED);
	plt_register(uffd, mem, PLT_BLOCK, PLT_BOTH);
	plt_expect_err(plt_continue(uffd, mem, PLT_BLOCK, 0, NULL), 0, "CONTINUE");
	plt_expect_read(mem, 0x93, "before the collapse");
	plt_expect_read(alias, 0x93, "the alias, before the collapse");

	task.addr = alias;
	plt_task_start(&task);
	err = plt_task_wait(&task, "MADV_COLLAPSE");
	if (err)
		plt_skip("MADV_COLLAPSE of shmem: %s", strerror(err));
	plt_expect_no_message(uffd, "MADV_COLLAPSE through the alias");
	t = plt_touch_read(mem + 9 * PLT_PAGE);
	if (plt_touch_wait(t, PLT_QUIET_MS) != PLT_PENDING)
		plt_skip("this kernel leaves the other mapping's entries in place");
	plt_expect_fault(uffd, mem + 9 * PLT_PAGE, true, "an installed page after a collapse");
	plt_expect_err(plt_continue(uffd, mem, PLT_BLOCK, 0, &mapped), 0,
		       "CONTINUE of a large page");
	PLT_CHECK(mapped == (int64_t)PLT_BLOCK, "expected 2 MiB mapped, saw %lld",
		  (long long)mapped);
	plt_expect_value(t, 0x93, "contents after the collapse");
	plt_expect_read(mem + 500 * PLT_PAGE, 0x93, "its neighbour");
	plt_pass();
}
