/* SPDX-License-Identifier: MIT */
/*
 * MADV_COLLAPSE of a whole block that is registered MISSING|MINOR, through the mapping
 * itself: no message is raised, contents stay, the block is mapped by one large page,
 * and an install there says EEXIST.
 */
#include "platform.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

static unsigned long large_kib(void)
{
	FILE *f = fopen("/proc/self/smaps_rollup", "re");
	unsigned long kib = 0;
	char line[256];

	PLT_CHECK(f, "/proc/self/smaps_rollup: %s", strerror(errno));
	while (fgets(line, sizeof(line), f))
		(void)sscanf(line, "ShmemPmdMapped: %lu kB", &kib);
	(void)fclose(f);
	return kib;
}

int main(void)
{
	struct plt_task task = { .fn = plt_do_madvise, .len = PLT_BLOCK, .arg = MADV_COLLAPSE };
	uint8_t *mem;
	int err;
	int fd;
	int uffd;

	plt_init();
	uffd = plt_uffd(UFFD_FEATURE_MINOR_SHMEM | UFFD_FEATURE_EVENT_REMOVE);
	fd = plt_memfd(PLT_BLOCK);
	plt_fill(fd, 0, 512, 0x77);
	mem = plt_map(fd, PLT_BLOCK, MAP_SHARED);
	plt_register(uffd, mem, PLT_BLOCK, PLT_BOTH);
	plt_expect_err(plt_continue(uffd, mem, PLT_BLOCK, 0, NULL), 0, "CONTINUE");
	task.addr = mem;
	plt_task_start(&task);
	err = plt_task_wait(&task, "MADV_COLLAPSE");
	if (err)
		plt_skip("MADV_COLLAPSE of shmem: %s", strerror(err));
	plt_expect_no_message(uffd, "MADV_COLLAPSE");
	for (unsigned int i = 0; i < 512; i++)
		plt_expect_read(mem + i * PLT_PAGE, 0x77, "after the collapse");
	PLT_CHECK(large_kib() == 2048, "%lu KiB are mapped by large pages", large_kib());
	plt_expect_err(plt_continue(uffd, mem + 5 * PLT_PAGE, PLT_PAGE, 0, NULL), EEXIST,
		       "CONTINUE over a large page");
	plt_expect_no_message(uffd, "touches of a large page");
	plt_pass();
}
