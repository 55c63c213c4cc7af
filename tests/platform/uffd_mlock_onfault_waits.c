/* SPDX-License-Identifier: MIT */
/*
 * mlock2(MLOCK_ONFAULT) of a registered range returns at once: it touches nothing, so
 * that whoever calls it waits for nobody; and MADV_DONTNEED of what is locked is EINVAL.
 */
#include "platform.h"

#ifndef MLOCK_ONFAULT
#define MLOCK_ONFAULT 1
#endif

static int do_mlock(struct plt_task *task)
{
	return mlock2(task->addr, task->len, MLOCK_ONFAULT) == 0 ? 0 : errno;
}

int main(void)
{
	struct plt_task task = { .fn = do_mlock, .len = 16 * PLT_PAGE };
	struct plt_toucher *t;
	uint8_t *mem;
	int err;
	int fd;
	int uffd;

	plt_init();
	uffd = plt_uffd(UFFD_FEATURE_MINOR_SHMEM | UFFD_FEATURE_EVENT_REMOVE);
	fd = plt_memfd(PLT_BLOCK);
	plt_fill(fd, 0, 512, 0x31);
	mem = plt_map(fd, PLT_BLOCK, MAP_SHARED);
	plt_register(uffd, mem, PLT_BLOCK, PLT_BOTH);
	plt_expect_err(plt_continue(uffd, mem, 4 * PLT_PAGE, 0, NULL), 0, "CONTINUE");
	task.addr = mem;
	plt_task_start(&task);
	err = plt_task_wait(&task, "mlock2() of a range that is not mapped wholly");
	if (err == ENOMEM || err == EPERM)
		plt_skip("mlock2: %s: raise RLIMIT_MEMLOCK", strerror(err));
	plt_expect_err(err, 0, "mlock2");
	plt_expect_no_message(uffd, "mlock2()");
	PLT_CHECK(madvise(mem, PLT_PAGE, MADV_DONTNEED) == -1 && errno == EINVAL,
		  "MADV_DONTNEED of what is locked: %s", strerror(errno));
	/* What comes later is served as before. */
	t = plt_touch_read(mem + 9 * PLT_PAGE);
	plt_expect_fault(uffd, mem + 9 * PLT_PAGE, true, "a page that was locked before it came");
	plt_expect_err(plt_continue(uffd, mem + 9 * PLT_PAGE, PLT_PAGE, 0, NULL), 0, "CONTINUE");
	plt_expect_value(t, 0x31, "its contents");
	plt_pass();
}
