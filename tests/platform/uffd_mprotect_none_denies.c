/* SPDX-License-Identifier: MIT */
/*
 * PROT_NONE on a registered range denies access without a message: SIGSEGV, also
 * for a thread that waited and is woken.  Closing the userfaultfd changes nothing
 * about it.  The way to fail closed where POISON is missing.
 */
#include "platform.h"

int main(void)
{
	struct plt_toucher *t;
	uint8_t *mem;
	int fd;
	int uffd;

	plt_init();
	uffd = plt_uffd(UFFD_FEATURE_MINOR_SHMEM);
	fd = plt_memfd(4 * PLT_PAGE);
	plt_fill(fd, 2, 2, 0x89);
	mem = plt_map(fd, 4 * PLT_PAGE, MAP_SHARED);
	plt_register(uffd, mem, 4 * PLT_PAGE, PLT_BOTH);
	t = plt_touch_read(mem);
	plt_expect_fault(uffd, mem, false, "fault on a hole");
	plt_expect_err(plt_continue(uffd, mem + 2 * PLT_PAGE, PLT_PAGE, 0, NULL), 0, "CONTINUE");

	PLT_CHECK(mprotect(mem, 4 * PLT_PAGE, PROT_NONE) == 0, "mprotect: %s", strerror(errno));
	plt_expect_asleep(t, "mprotect wakes nobody");
	plt_expect_err(plt_wake(uffd, mem, PLT_PAGE), 0, "WAKE");
	plt_expect_end(t, PLT_SIGSEGV, "the waiter, woken after PROT_NONE");
	plt_expect_end(plt_touch_read(mem + PLT_PAGE), PLT_SIGSEGV, "a touch of a hole");
	plt_expect_end(plt_touch_read(mem + 2 * PLT_PAGE), PLT_SIGSEGV, "a touch of a mapped page");
	plt_expect_no_message(uffd, "touches of PROT_NONE");
	close(uffd);
	plt_expect_end(plt_touch_read(mem + PLT_PAGE), PLT_SIGSEGV, "closed: a touch of a hole");
	PLT_CHECK(!plt_cached(fd, 0) && !plt_cached(fd, 1),
		  "expected no page in the image, saw one");
	plt_pass();
}
