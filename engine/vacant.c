/* SPDX-License-Identifier: MIT */
/*
 * Mappings that take the place of a region's pages when it is closed.
 *
 * Tested by unit.mapping.
 */
#include "engine/vacant.h"

#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define NAME "faultlane-unfilled" /* in FLN_VACANT_PATH */
#define ZERO_DEVICE makedev(1, 5)

/* The seals keep it empty, whatever is done to the descriptor. */
static int open_empty(void)
{
	int fd = fln_fd_keep(memfd_create(NAME, MFD_CLOEXEC | MFD_ALLOW_SEALING));

	if (fd >= 0 && fcntl(fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) != 0) {
		(void)close(fd);
		fd = -1;
	}
	return fd;
}

static int open_zeros(struct fln_vacant *v)
{
	int fd = fln_fd_keep(open("/dev/zero", O_RDWR | O_CLOEXEC));
	struct stat st;

	if (fd < 0)
		return -1;
	if (fstat(fd, &st) != 0 || !S_ISCHR(st.st_mode) || st.st_rdev != ZERO_DEVICE) {
		(void)close(fd);
		return -1;
	}
	v->zero_device = st.st_dev;
	v->zero_inode = st.st_ino;
	return fd;
}

void fln_vacant_open(struct fln_vacant *v)
{
	v->zero_device = 0;
	v->zero_inode = 0;
	v->fd = open_empty();
	v->zero_fd = open_zeros(v);
}

void fln_vacant_close(struct fln_vacant *v)
{
	if (v->fd > 0)
		(void)close(v->fd);
	if (v->zero_fd > 0)
		(void)close(v->zero_fd);
	v->fd = 0;
	v->zero_fd = 0;
}

/*
 * Makes the system call itself, because ThreadSanitizer treats mmap() as a write to the range,
 * which the guest's threads may be writing to.
 */
static int map_over(uint64_t addr, uint64_t len_bytes, int flags, int fd, uint64_t offset_bytes)
{
	long at = syscall(SYS_mmap, addr, (size_t)len_bytes, PROT_READ | PROT_WRITE,
			  flags | MAP_FIXED | MAP_NORESERVE, fd, (long)offset_bytes);

	return at == -1 ? -errno : 0;
}

int fln_vacant_map(const struct fln_vacant *v, uint64_t addr, uint64_t len_bytes,
		   uint64_t offset_bytes, bool is_private)
{
	if (v->fd <= 0)
		return -ENOSYS;
	return map_over(addr, len_bytes, is_private ? MAP_PRIVATE : MAP_SHARED, v->fd,
			offset_bytes);
}

int fln_vacant_map_zeros(const struct fln_vacant *v, uint64_t addr, uint64_t len_bytes,
			 uint64_t offset_bytes)
{
	if (v->zero_fd > 0 && map_over(addr, len_bytes, MAP_PRIVATE, v->zero_fd, offset_bytes) == 0)
		return 0;
	return map_over(addr, len_bytes, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}
