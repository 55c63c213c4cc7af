/* SPDX-License-Identifier: MIT */
/*
 * The memfd behind an image: made, or adopted, and mapped for the engine.
 *
 * The engine's own mapping (the alias) is never registered with a userfaultfd
 * and not inherited by children: a child that read a hole of it would put a
 * page of zeros into the image.
 */
#include "sources/memfd.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/file_size.h"
#include "base/map.h"
#include "sources/huge.h"
#include "sources/image.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif
#ifndef MFD_HUGE_2MB
#define MFD_HUGE_2MB (21U << 26)
#endif

static int make_memfd(struct fln_image *image)
{
	bool huge = fln_image_is_huge(image);
	int fd = fln_fd_keep(
		memfd_create(image->name, MFD_CLOEXEC | MFD_ALLOW_SEALING |
						  (huge ? MFD_HUGETLB | MFD_HUGE_2MB : 0)));
	int rc;

	if (fd < 0)
		return fln_fail(errno, "image %s: memfd_create: %s%s", image->name, strerror(errno),
				errno == EMFILE ? "; raise RLIMIT_NOFILE"
				: huge ? "; this kernel may have no huge pages of 2 MiB (hugetlbfs)"
				       : "");
	rc = fln_file_size_set(fd, image->len_bytes);
	/* And against more seals: a process that is given the descriptor could forbid us to write. */
	if (rc == 0 && fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0)
		rc = -errno;
	if (rc) {
		rc = fln_fail(-rc, "image %s: cannot make a memfd of %llu bytes: %s%s", image->name,
			      (unsigned long long)image->len_bytes, strerror(-rc),
			      rc == -EFBIG ? "; raise RLIMIT_FSIZE" : "");
		(void)close(fd);
		return rc;
	}
	image->memfd = fd;
	return 0;
}

static int check_kind(const struct fln_image *image, int fd)
{
	struct statfs fs;
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || fstatfs(fd, &fs) != 0)
		return fln_fail(errno, "image %s: descriptor %d: %s", image->name, fd,
				strerror(errno));
	if ((flags & O_ACCMODE) != O_RDWR)
		return fln_fail(EINVAL,
				"image %s: descriptor %d is not open for reading and "
				"writing",
				image->name, fd);
	if (fs.f_type != TMPFS_MAGIC && fs.f_type != HUGETLBFS_MAGIC)
		return fln_fail(EINVAL,
				"image %s: descriptor %d is not shmem (file system type "
				"0x%lx); use memfd_create(), or a file on tmpfs or hugetlbfs",
				image->name, fd, (unsigned long)fs.f_type);
	return 0;
}

/*
 * A process with the descriptor could make the memfd shorter, and take contents away
 * that the image calls FILLED.  The kernel forbids it once there is a seal.
 */
static int seal_adopted(const struct fln_image *image, int fd)
{
	int seals = fcntl(fd, F_GET_SEALS);

	if (seals < 0)
		return fln_fail(EINVAL,
				"image %s: descriptor %d knows no seals (%s), and could be made "
				"shorter at any time; use memfd_create() with MFD_ALLOW_SEALING, "
				"or FLN_IMAGE_F_UNSEALED to take the risk",
				image->name, fd, strerror(errno));
	if (seals & F_SEAL_SHRINK || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK) == 0)
		return 0;
	return fln_fail(EPERM,
			"image %s: descriptor %d cannot be sealed against shrinking (%s); use "
			"memfd_create() with MFD_ALLOW_SEALING, or FLN_IMAGE_F_UNSEALED to take "
			"the risk",
			image->name, fd,
			seals & F_SEAL_SEAL
				? "made without MFD_ALLOW_SEALING, a file, or F_SEAL_SEAL"
				: strerror(errno));
}

/*
 * A memfd that is sealed against writing cannot be filled, punched, or mapped by shared
 * regions.  If all of it is filled already its private regions need none of that.
 */
static int check_writable(struct fln_image *image, int fd, bool filled)
{
	int seals = fcntl(fd, F_GET_SEALS);

	if (seals < 0 || !(seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)))
		return 0;
	image->read_only = true;
	if (filled)
		return 0;
	return fln_fail(EPERM,
			"image %s: descriptor %d is sealed against writing (%s), so it cannot be "
			"filled; use one without that seal, or FLN_IMAGE_F_FILLED if its contents "
			"are there",
			image->name, fd,
			seals & F_SEAL_WRITE ? "F_SEAL_WRITE" : "F_SEAL_FUTURE_WRITE");
}

/* The length last: once there is a seal it stays. */
static int check_adopted(const struct fln_image *image, int fd, bool unsealed)
{
	struct stat st;
	int rc = check_kind(image, fd);

	if (rc == 0 && !unsealed)
		rc = seal_adopted(image, fd);
	if (rc)
		return rc;
	if (fstat(fd, &st) != 0)
		return fln_fail(errno, "image %s: descriptor %d: %s", image->name, fd,
				strerror(errno));
	if ((uint64_t)st.st_size < image->len_bytes)
		return fln_fail(ENODATA,
				"image %s: descriptor %d is %lld bytes long, shorter than "
				"the image's %llu; make it longer or the image shorter",
				image->name, fd, (long long)st.st_size,
				(unsigned long long)image->len_bytes);
	return 0;
}

/* The size of an adopted memfd's pages is its own. */
static int take_page_bytes(struct fln_image *image, int fd)
{
	uint32_t page_bytes = FLN_PAGE_BYTES;
	struct statfs fs;
	struct stat st;

	if (fstat(fd, &st) != 0 || fstatfs(fd, &fs) != 0)
		return fln_fail(errno, "image %s: descriptor %d: %s", image->name, fd,
				strerror(errno));
	if (fs.f_type == HUGETLBFS_MAGIC) {
		if (st.st_blksize != (blksize_t)FLN_BLOCK_BYTES)
			return fln_fail(EINVAL,
					"image %s: descriptor %d has huge pages of %lld bytes; "
					"make it with MFD_HUGE_2MB, or pagesize=2M",
					image->name, fd, (long long)st.st_blksize);
		page_bytes = FLN_BLOCK_BYTES;
	}
	if (image->page_bytes && image->page_bytes != page_bytes)
		return fln_fail(EINVAL,
				"image %s: page_bytes is %u, and descriptor %d has pages of %u; "
				"give 0 or that",
				image->name, image->page_bytes, fd, page_bytes);
	if (!fln_is_aligned(image->len_bytes, page_bytes))
		return fln_fail(EINVAL,
				"image %s: len_bytes is %llu, no multiple of %u, the size of "
				"descriptor %d's pages",
				image->name, (unsigned long long)image->len_bytes, page_bytes, fd);
	image->page_bytes = page_bytes;
	return 0;
}

/* What the size of a mounted file system permits; 0: that of the kernel's own is none. */
static uint64_t room_of(int fd)
{
	struct statfs fs;

	return fstatfs(fd, &fs) == 0 && fs.f_type == TMPFS_MAGIC
		       ? (uint64_t)fs.f_blocks * (uint64_t)fs.f_bsize
		       : 0;
}

static int adopt_memfd(struct fln_image *image, const struct fln_image_opts *opts)
{
	char path[32];
	int fd = opts->memfd, rc = take_page_bytes(image, fd);

	if (rc == 0)
		rc = check_adopted(image, fd, opts->flags & FLN_IMAGE_F_UNSEALED);
	if (rc == 0)
		rc = check_writable(image, fd, opts->flags & FLN_IMAGE_F_FILLED);
	image->room_bytes = room_of(fd);
	if (rc)
		return rc;
	/* A file description of our own: looking for holes moves its offset. */
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	image->memfd = fln_fd_keep(open(path, O_RDWR | O_CLOEXEC));
	if (image->memfd < 0)
		image->memfd = fln_fd_keep(fcntl(fd, F_DUPFD_CLOEXEC, 0));
	if (image->memfd < 0)
		return fln_fail(errno,
				"image %s: duplicating descriptor %d: %s; raise "
				"RLIMIT_NOFILE",
				image->name, fd, strerror(errno));
	return 0;
}

/*
 * The engine's mapping.  Of huge pages that we make ourselves, all are reserved with it:
 * memory that the machine does not have is refused here, and not found out when the
 * guest runs.  What is given up afterwards is not reserved any more; a host with more
 * guests than memory adopts a memfd, of which nothing is reserved.
 */
static int map_alias(struct fln_image *image, bool adopted)
{
	bool reserve = fln_image_is_huge(image) && !adopted;
	int err;

	image->alias = fln_map_closed(NULL, image->len_bytes,
				      MAP_SHARED | (reserve ? 0 : MAP_NORESERVE), image->memfd, 0);
	err = image->alias == MAP_FAILED
		      ? errno
		      : -fln_map_open(image->alias, image->len_bytes, !image->read_only);
	if (err == 0)
		return 0;
	if (image->alias != MAP_FAILED)
		(void)munmap(image->alias, image->len_bytes);
	if (reserve && err == ENOMEM)
		return fln_huge_fail(image, ENOMEM, image->len_bytes / FLN_BLOCK_BYTES);
	return fln_fail(err, "image %s: mapping %llu bytes: %s%s", image->name,
			(unsigned long long)image->len_bytes, strerror(err), fln_map_remedy(err));
}

int fln_image_open_memfd(struct fln_image *image, const struct fln_image_opts *opts)
{
	bool adopt = opts->flags & FLN_IMAGE_F_ADOPT;
	struct stat st;
	int rc;

	if (!adopt && !image->page_bytes)
		image->page_bytes = FLN_PAGE_BYTES;
	rc = adopt ? adopt_memfd(image, opts) : make_memfd(image);
	if (rc)
		return rc;
	rc = fln_image_is_huge(image) ? fln_huge_check(image) : 0;
	if (rc == 0)
		rc = map_alias(image, adopt);
	if (rc) {
		(void)close(image->memfd);
		return rc;
	}
	/*
	 * A core dump reads all that it may: through the alias it would fill every hole
	 * with a page of zeros, and write down contents that the guest never asked for.
	 */
	if (fstat(image->memfd, &st) != 0 ||
	    madvise(image->alias, image->len_bytes, MADV_DONTFORK) != 0 ||
	    madvise(image->alias, image->len_bytes, MADV_DONTDUMP) != 0) {
		rc = fln_fail(errno, "image %s: MADV_DONTFORK or MADV_DONTDUMP: %s", image->name,
			      strerror(errno));
		fln_image_close_memfd(image);
		return rc;
	}
	image->inode = (uint64_t)st.st_ino;
	image->device = (uint64_t)st.st_dev;
	return 0;
}

void fln_image_seal_seals(const struct fln_image *image)
{
	/* Where it fails there are no seals, or there is this one. */
	(void)fcntl(image->memfd, F_ADD_SEALS, F_SEAL_SEAL);
}

void fln_image_close_memfd(struct fln_image *image)
{
	(void)munmap(image->alias, image->len_bytes);
	(void)close(image->memfd);
}
