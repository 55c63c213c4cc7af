/* SPDX-License-Identifier: MIT */
/*
 * Without EVENT_FORK a child's copy of a shared range is not registered: it reads
 * a hole as zeros, and so puts a page of zeros into the image, which the parent
 * meets as a minor fault.  MADV_DONTFORK keeps the range out of children.
 */
#include "platform.h"

#include <signal.h>
#include <sys/wait.h>

static int child_reads(volatile uint8_t *at)
{
	pid_t pid = fork();

	PLT_CHECK(pid >= 0, "fork: %s", strerror(errno));
	if (pid == 0) {
		signal(SIGSEGV, SIG_DFL);
		alarm(10);
		_exit(*at);
	}
	return plt_wait_child(pid);
}

int main(void)
{
	uint8_t *mem;
	int status;
	int fd;
	int uffd;

	plt_init();
	uffd = plt_uffd(UFFD_FEATURE_MINOR_SHMEM);
	fd = plt_memfd(4 * PLT_PAGE);
	mem = plt_map(fd, 4 * PLT_PAGE, MAP_SHARED);
	plt_register(uffd, mem, 4 * PLT_PAGE, PLT_BOTH);

	status = child_reads(mem);
	PLT_CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0,
		  "expected the child to read 0, saw status %#x", (unsigned int)status);
	PLT_CHECK(plt_cached(fd, 0), "expected the child's read to put a page there, saw none");
	plt_touch_read(mem);
	plt_expect_fault(uffd, mem, true, "the page that the child read");

	PLT_CHECK(madvise(mem, 4 * PLT_PAGE, MADV_DONTFORK) == 0, "MADV_DONTFORK: %s",
		  strerror(errno));
	status = child_reads(mem + PLT_PAGE);
	PLT_CHECK(!(WIFEXITED(status) && WEXITSTATUS(status) == 0),
		  "expected SIGSEGV in the child with MADV_DONTFORK, saw it read 0");
	PLT_CHECK(!plt_cached(fd, 1), "expected no page with MADV_DONTFORK, saw one");
	plt_pass();
}
