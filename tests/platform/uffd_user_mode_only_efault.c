/* SPDX-License-Identifier: MIT */
/*
 * With UFFD_USER_MODE_ONLY the kernel's own accesses are not served: a system
 * call that is handed such memory returns EFAULT and queues nothing, while a
 * thread's touch is served as ever.  (KVM's accesses fail in the same way.)
 */
#include "platform.h"

int main(void)
{
	struct plt_toucher *t;
	uint8_t *mem;
	ssize_t n;
	int sink;
	int fd;
	int uffd;

	plt_init();
	uffd = plt_uffd_flags(UFFD_FEATURE_MINOR_SHMEM, UFFD_USER_MODE_ONLY);
	fd = plt_memfd(4 * PLT_PAGE);
	plt_fill(fd, 0, 4, 0x8b);
	mem = plt_map(fd, 4 * PLT_PAGE, MAP_SHARED);
	plt_register(uffd, mem, 4 * PLT_PAGE, PLT_BOTH);

	sink = open("/proc/self/comm", O_WRONLY | O_CLOEXEC);
	PLT_CHECK(sink >= 0, "open of /proc/self/comm: %s", strerror(errno));
	n = write(sink, mem, 8);
	plt_expect_err(n < 0 ? errno : 0, EFAULT, "write() from memory that is not there");
	plt_expect_no_message(uffd, "an access by the kernel");
	t = plt_touch_read(mem);
	plt_expect_fault(uffd, mem, true, "a thread's touch");
	plt_expect_err(plt_continue(uffd, mem, PLT_PAGE, 0, NULL), 0, "CONTINUE");
	plt_expect_value(t, 0x8b, "a thread's touch");
	plt_pass();
}
