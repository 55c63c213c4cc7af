/* SPDX-License-Identifier: MIT */
/*
 * Where a tmpfs is full, MADV_POPULATE_WRITE and process_vm_writev() into a mapping of a file on
 * it return EFAULT, and raise no signal, as a store would.  write() tells ENOSPC.
 */
#include "platform.h"

#include <sched.h>
#include <sys/mount.h>
#include <sys/uio.h>

static char dir[] = "/tmp/fln-platform-XXXXXX";

static int open_full(void)
{
	char path[sizeof(dir) + 8];
	int fd;

	PLT_CHECK(mkdtemp(dir), "mkdtemp: %s", strerror(errno));
	if ((unshare(CLONE_NEWNS) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) ||
	    mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
	    mount("none", dir, "tmpfs", 0, "size=16k") != 0) {
		(void)rmdir(dir);
		plt_skip("no tmpfs of our own: %s", strerror(errno));
	}
	(void)snprintf(path, sizeof(path), "%s/file", dir);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	(void)umount2(dir, MNT_DETACH);
	(void)rmdir(dir);
	PLT_CHECK(fd >= 0, "%s: %s", path, strerror(errno));
	PLT_CHECK(ftruncate(fd, (off_t)PLT_BLOCK) == 0, "ftruncate: %s", strerror(errno));
	for (off_t at = 0; pwrite(fd, dir, 1, at) == 1; at += (off_t)PLT_PAGE)
		;
	PLT_CHECK(errno == ENOSPC, "pwrite: %s", strerror(errno));
	return fd;
}

int main(void)
{
	char page[4096] = { 1 };
	struct iovec local = { page, sizeof(page) }, remote;
	uint8_t *mem;
	int fd;

	plt_init();
	fd = open_full();
	mem = plt_map(fd, PLT_BLOCK, MAP_SHARED);
	remote.iov_base = mem + PLT_BLOCK / 2;
	remote.iov_len = sizeof(page);
	PLT_CHECK(madvise(remote.iov_base, PLT_PAGE, MADV_POPULATE_WRITE) == -1 && errno == EFAULT,
		  "MADV_POPULATE_WRITE: %s", strerror(errno));
	PLT_CHECK(process_vm_writev(getpid(), &local, 1, &remote, 1, 0) == -1 && errno == EFAULT,
		  "process_vm_writev: %s", strerror(errno));
	remote.iov_base = mem;
	PLT_CHECK(process_vm_writev(getpid(), &local, 1, &remote, 1, 0) == (ssize_t)sizeof(page),
		  "process_vm_writev where there is a page: %s", strerror(errno));
	plt_pass();
}
