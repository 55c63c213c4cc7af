/* SPDX-License-Identifier: MIT */
/*
 * MADV_DONTNEED clears poison, after a REMOVE event; and it tells of a range mapping
 * by mapping, in order, each once.
 */
#include "platform.h"

int main(void)
{
	struct plt_task task = { .fn = plt_do_madvise, .len = PLT_BLOCK, .arg = MADV_DONTNEED };
	struct plt_toucher *t;
	struct uffd_msg m;
	uint8_t *mem;
	int fd;
	int uffd;

	plt_init();
	uffd = plt_uffd(UFFD_FEATURE_MINOR_SHMEM | UFFD_FEATURE_EVENT_REMOVE | UFFD_FEATURE_POISON);
	fd = plt_memfd(PLT_BLOCK);
	plt_fill(fd, 0, 512, 0x42);
	mem = plt_map(fd, PLT_BLOCK, MAP_SHARED);
	plt_poisonable(uffd, mem, PLT_BLOCK, PLT_BOTH);
	plt_expect_err(plt_poison(uffd, mem + 5 * PLT_PAGE, PLT_PAGE, 0, NULL), 0, "POISON");
	/* Two mappings: protected in part. */
	PLT_CHECK(mprotect(mem + 100 * PLT_PAGE, PLT_BLOCK - 100 * PLT_PAGE, PROT_READ) == 0,
		  "mprotect: %s", strerror(errno));
	task.addr = mem;
	plt_task_start(&task);
	m = plt_expect_event(uffd, UFFD_EVENT_REMOVE, "the first mapping");
	PLT_CHECK(m.arg.remove.start == (uint64_t)(uintptr_t)mem &&
			  m.arg.remove.end == m.arg.remove.start + 100 * PLT_PAGE,
		  "the first event is of [0x%llx, 0x%llx)", (unsigned long long)m.arg.remove.start,
		  (unsigned long long)m.arg.remove.end);
	m = plt_expect_event(uffd, UFFD_EVENT_REMOVE, "the second mapping");
	PLT_CHECK(m.arg.remove.start == (uint64_t)(uintptr_t)mem + 100 * PLT_PAGE &&
			  m.arg.remove.end == (uint64_t)(uintptr_t)mem + PLT_BLOCK,
		  "the second event is of [0x%llx, 0x%llx)", (unsigned long long)m.arg.remove.start,
		  (unsigned long long)m.arg.remove.end);
	plt_expect_err(plt_task_wait(&task, "MADV_DONTNEED"), 0, "MADV_DONTNEED");
	t = plt_touch_read(mem + 5 * PLT_PAGE);
	plt_expect_fault(uffd, mem + 5 * PLT_PAGE, true, "a page that was poisoned");
	plt_expect_err(plt_continue(uffd, mem + 5 * PLT_PAGE, PLT_PAGE, 0, NULL), 0, "CONTINUE");
	plt_expect_value(t, 0x42, "its contents");
	plt_pass();
}
