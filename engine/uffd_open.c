/* SPDX-License-Identifier: MIT */
/*
 * Opening, probing and adopting userfaultfds.
 *
 * Tested by integration.privilege, integration.host_refuses, integration.bad_input.
 */
#include "engine/uffd_open.h"

#include "base/error.h"
#include "base/fd.h"
#include "base/page.h"
#include "engine/uffd.h"
#include "engine/uffd_compat.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

int fln_uffd_from_device(bool user_mode_only)
{
	int flags = O_CLOEXEC | O_NONBLOCK | (user_mode_only ? UFFD_USER_MODE_ONLY : 0);
	int dev = fln_fd_keep(open("/dev/userfaultfd", O_RDWR | O_CLOEXEC));
	int fd, err;

	if (dev < 0)
		return -errno;
	fd = fln_fd_keep(ioctl(dev, USERFAULTFD_IOC_NEW, flags));
	err = errno;
	(void)close(dev);
	if (fd >= 0)
		return fd;
	/* Once open, the real device refuses for no other reason: this is some other device. */
	return err == EMFILE || err == ENFILE || err == ENOMEM ? -err : -ENODEV;
}

int fln_uffd_from_syscall(bool user_mode_only)
{
	int flags = O_CLOEXEC | O_NONBLOCK | (user_mode_only ? UFFD_USER_MODE_ONLY : 0);
	int fd = fln_fd_keep((int)syscall(SYS_userfaultfd, flags));

	return fd >= 0 ? fd : -errno;
}

/*
 * Open a descriptor in the way more likely to succeed.  The system call grants kernel-mode faults
 * to privileged users only, and user-mode ones to all, unless a filter refuses the call: so the
 * device is tried first for the former, and the system call for the latter.  *device_err: the
 * device's errno, or 0.
 */
static int open_descriptor(bool user_mode_only, int *device_err)
{
	int fd = -ENOSYS, dev = -EPERM;

	*device_err = 0;
	if (user_mode_only)
		fd = fln_uffd_from_syscall(true);
	if (fd >= 0 || fd == -EMFILE || fd == -ENFILE)
		return fd;
	dev = fln_uffd_from_device(user_mode_only);
	if (dev >= 0 || dev == -EMFILE || dev == -ENFILE)
		return dev;
	*device_err = -dev;
	return user_mode_only ? fd : fln_uffd_from_syscall(false);
}

/* /dev/userfaultfd is some other device: the real one's minor number is chosen at boot. */
static int wrong_device(int err)
{
	return fln_fail(err,
			"/dev/userfaultfd is another device (and the system call is refused, errno "
			"%d); replace it, with its minor number from /proc/misc: mknod "
			"/dev/userfaultfd c 10 MINOR",
			err);
}

static int open_error(int err, int device_err, bool user_mode_only)
{
	switch (err) {
	case EPERM:
	case EACCES:
		if (device_err == ENODEV || device_err == ENXIO)
			return wrong_device(err);
		if (user_mode_only)
			return fln_fail(err,
					"userfaultfd is refused even for user-mode faults "
					"(errno %d); allow the userfaultfd system call in the "
					"seccomp filter or container profile, or give access to "
					"/dev/userfaultfd",
					err);
		return fln_fail(err,
				"userfaultfd is refused (errno %d); give this user read and "
				"write access to /dev/userfaultfd, or CAP_SYS_PTRACE, or set "
				"vm.unprivileged_userfaultfd=1, or ask for user-mode faults only",
				err);
	case ENOSYS:
		/* If the kernel has userfaultfd's sysctl, it was a filter that answered ENOSYS. */
		if (faccessat(AT_FDCWD, "/proc/sys/vm/unprivileged_userfaultfd", F_OK,
			      AT_EACCESS) == 0)
			return fln_fail(err, "a filter refuses the userfaultfd system call, which "
					     "this kernel has; allow it in the seccomp filter or "
					     "container profile, or give access to "
					     "/dev/userfaultfd");
		return fln_fail(err,
				"this kernel has no userfaultfd, or a filter hides it; use Linux "
				"5.14 or newer, built with CONFIG_USERFAULTFD=y");
	case EMFILE:
	case ENFILE:
		return fln_fail(err,
				"no file descriptor is left for a userfaultfd (%s); raise "
				"RLIMIT_NOFILE or fs.file-max, or use fewer shards",
				err == EMFILE ? "of this process" : "of the system");
	default:
		return fln_fail(err, "userfaultfd: %s", strerror(err));
	}
}

int fln_uffd_probe(bool user_mode_only, uint64_t *features)
{
	struct uffdio_api api = { .api = UFFD_API };
	int err, device_err;
	int fd = open_descriptor(user_mode_only, &device_err);

	if (fd < 0)
		return open_error(-fd, device_err, user_mode_only);
	err = ioctl(fd, UFFDIO_API, &api) == 0 ? 0 : errno;
	(void)close(fd);
	if (err)
		return fln_fail(err,
				"UFFDIO_API: %s; this kernel speaks another userfaultfd "
				"protocol than 0x%llx",
				strerror(err), (unsigned long long)UFFD_API);
	*features = api.features;
	return 0;
}

int fln_uffd_check_features(uint64_t features)
{
	uint64_t need = UFFD_FEATURE_MISSING_SHMEM | UFFD_FEATURE_MINOR_SHMEM;

	if ((features & need) == need)
		return 0;
	return fln_fail(EOPNOTSUPP,
			"this kernel's userfaultfd lacks minor faults on shmem (features 0x%llx); "
			"use Linux 5.14 or newer",
			(unsigned long long)features);
}

/* The statistics go on when a userfaultfd is opened again, and are read meanwhile. */
static void begin(struct fln_uffd *u)
{
	u->ops = &fln_uffd_kernel_ops;
	u->fd = -1;
	u->user_mode_only = u->shared = u->no_nowait = false;
	u->features = 0;
	atomic_store_explicit(&u->range_ioctls, 0, memory_order_relaxed);
	atomic_store_explicit(&u->process_gone, false, memory_order_relaxed);
}

int fln_uffd_open(struct fln_uffd *u, bool user_mode_only, uint64_t features)
{
	struct uffdio_api api = { .api = UFFD_API };
	uint64_t known = 0;
	int device_err;
	int rc = fln_uffd_probe(user_mode_only, &known);

	if (rc)
		return rc;
	begin(u);
	u->user_mode_only = user_mode_only;
	u->fd = open_descriptor(user_mode_only, &device_err);
	if (u->fd < 0)
		return open_error(-u->fd, device_err, user_mode_only);
	api.features = features & known;
	if (ioctl(u->fd, UFFDIO_API, &api) != 0) {
		rc = -errno;
		(void)close(u->fd);
		u->fd = -1;
		return fln_fail(-rc, "UFFDIO_API with features 0x%llx: %s",
				(unsigned long long)(features & known), strerror(-rc));
	}
	u->features = features & known;
	atomic_store_explicit(&u->is_open, true, memory_order_relaxed);
	return 0;
}

void fln_uffd_adopt(struct fln_uffd *u, int fd)
{
	begin(u);
	u->fd = fd;
	u->shared = true;
	atomic_store_explicit(&u->is_open, true, memory_order_relaxed);
}

/* The file that a descriptor refers to, by /proc.  False: unknown. */
static bool descriptor_name(int fd, char *name, size_t size)
{
	char path[32];
	ssize_t len;

	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	len = readlink(path, name, size - 1);
	if (len < 0)
		return false;
	name[len] = 0;
	return true;
}

int fln_uffd_check_fd(int fd)
{
	/* No thread waits there, and the call would answer the same for any range. */
	struct uffdio_range nowhere = { .start = UINT64_C(1) << 32, .len = FLN_PAGE_BYTES };
	char name[64];
	struct stat st;

	if (fstat(fd, &st) != 0)
		return fln_fail(EINVAL,
				"guest: foreign_uffd is %d, which is not an open descriptor", fd);
	if (descriptor_name(fd, name, sizeof(name))) {
		if (strcmp(name, "anon_inode:[userfaultfd]") != 0)
			return fln_fail(EINVAL,
					"guest: foreign_uffd is %d, which is %s, not a userfaultfd",
					fd, name);
	} else if (st.st_mode & S_IFMT) {
		/* Only the kernel's anonymous files have no type; files of file systems have one. */
		return fln_fail(EINVAL,
				"guest: foreign_uffd is %d, a file of mode 0%o, not a "
				"userfaultfd",
				fd, (unsigned)st.st_mode);
	}
	if (ioctl(fd, UFFDIO_WAKE, &nowhere) == 0)
		return 0;
	return fln_fail(
		EINVAL,
		"guest: foreign_uffd is %d, which does not answer like a userfaultfd (errno "
		"%d); call UFFDIO_API on it before handing it over",
		fd, errno);
}
