/* SPDX-License-Identifier: MIT */
/*
 * One memfd, two processes: a page that the other one writes by the descriptor can
 * be mapped by CONTINUE here; a hole that it punches unmaps the page here too,
 * without an event, and CONTINUE then answers EFAULT.
 */
#include "platform.h"

#include <sys/wait.h>

static int memfd;

static void elsewhere(void (*fn)(void), const char *what)
{
	int status;
	pid_t pid = fork();

	PLT_CHECK(pid >= 0, "fork: %s", strerror(errno));
	if (pid == 0) {
		fn();
		_exit(0);
	}
	PLT_CHECK(waitpid(pid, &status, 0) == pid && status == 0, "%s: status 0x%x", what,
		  (unsigned int)status);
}

static void fill(void)
{
	plt_fill(memfd, 0, 4, 0x61);
}

static void punch(void)
{
	if (fallocate(memfd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)PLT_PAGE,
		      (off_t)PLT_PAGE) != 0)
		_exit(1);
}

int main(void)
{
	struct plt_toucher *t;
	uint8_t *mem;
	int uffd;

	plt_init();
	uffd = plt_uffd(UFFD_FEATURE_MINOR_SHMEM | UFFD_FEATURE_EVENT_REMOVE);
	memfd = plt_memfd(4 * PLT_PAGE);
	mem = plt_map(memfd, 4 * PLT_PAGE, MAP_SHARED);
	plt_register(uffd, mem, 4 * PLT_PAGE, PLT_BOTH);
	plt_expect_err(plt_continue(uffd, mem, PLT_PAGE, 0, NULL), EFAULT, "CONTINUE of a hole");
	elsewhere(fill, "filling in another process");
	plt_expect_err(plt_continue(uffd, mem, 4 * PLT_PAGE, 0, NULL), 0, "CONTINUE");
	plt_expect_read(mem + PLT_PAGE, 0x61, "filled by another process");

	elsewhere(punch, "punching in another process");
	plt_expect_no_message(uffd, "a hole punched by another process");
	t = plt_touch_read(mem + PLT_PAGE);
	plt_expect_fault(uffd, mem + PLT_PAGE, false, "touch of a page punched elsewhere");
	plt_expect_err(plt_continue(uffd, mem + PLT_PAGE, PLT_PAGE, 0, NULL), EFAULT,
		       "CONTINUE of a page punched elsewhere");
	plt_expect_err(plt_zeropage(uffd, mem + PLT_PAGE, PLT_PAGE, 0, NULL), 0, "ZEROPAGE");
	plt_expect_value(t, 0, "the punched page");
	plt_expect_read(mem, 0x61, "the page before the hole");
	plt_pass();
}
