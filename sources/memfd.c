/* SPDX-License-Identifier: MIT */
/*
 * The memfd of an image: created or adopted, and mapped for our own use (the alias).
 *
 * The alias is never registered with a userfaultfd, and not inherited by children: a
 * child that read a hole through it would put a zero page into the page cache.
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
				: huge ? "; this kernel may lack huge pages of 2 MiB (hugetlbfs)"
				       : "");
	rc = fln_file_size_set(fd, image->len_bytes);
	/* F_SEAL_SEAL: a process that gets the descriptor must not seal it against our writes. */
	if (rc == 0 && fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0)
		rc = -errno;
	if (rc) {
		rc = fln_fail(-rc, "image %s: cannot create a memfd of %llu bytes: %s%s",
			      image->name, (unsigned long long)image->len_bytes, strerror(-rc),
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
 * Another process with the descriptor could truncate the memfd, and so remove contents of
 * FILLED pages.  F_SEAL_SHRINK prevents that.
 */
static int seal_adopted(const struct fln_image *image, int fd)
{
	int seals = fcntl(fd, F_GET_SEALS);

	if (seals < 0)
		return fln_fail(EINVAL,
				"image %s: descriptor %d does not support seals (%s) and could be "
				"truncated at any time; use memfd_create() with MFD_ALLOW_SEALING, "
				"or FLN_IMAGE_F_UNSEALED to accept the risk",
				image->name, fd, strerror(errno));
	if (seals & F_SEAL_SHRINK || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK) == 0)
		return 0;
	return fln_fail(
		EPERM,
		"image %s: descriptor %d cannot be sealed against shrinking (%s); use "
		"memfd_create() with MFD_ALLOW_SEALING, or FLN_IMAGE_F_UNSEALED to accept "
		"the risk",
		image->name, fd,
		seals & F_SEAL_SEAL
			? "F_SEAL_SEAL is set: a tmpfs file, or made without MFD_ALLOW_SEALING"
			: strerror(errno));
}

/*
 * A memfd that is sealed against writing cannot be filled, punched, or mapped by shared
 * regions.  Private regions of a completely filled image need none of that.
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
			"are complete",
			image->name, fd,
			seals & F_SEAL_WRITE ? "F_SEAL_WRITE" : "F_SEAL_FUTURE_WRITE");
}

/* Check the length last: once F_SEAL_SHRINK is set the memfd cannot become shorter. */
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
				"the image's %llu; enlarge it or reduce len_bytes",
				image->name, fd, (long long)st.st_size,
				(unsigned long long)image->len_bytes);
	return 0;
}

/* Take the page size from an adopted memfd. */
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
			return fln_fail(
				EINVAL,
				"image %s: descriptor %d has huge pages of %lld bytes; "
				"create it with MFD_HUGE_2MB, or on a mount with pagesize=2M",
				image->name, fd, (long long)st.st_blksize);
		page_bytes = FLN_BLOCK_BYTES;
	}
	if (image->page_bytes && image->page_bytes != page_bytes)
		return fln_fail(
			EINVAL,
			"image %s: page_bytes is %u, but descriptor %d has pages of %u bytes; "
			"use that or 0",
			image->name, image->page_bytes, fd, page_bytes);
	if (!fln_is_aligned(image->len_bytes, page_bytes))
		return fln_fail(
			EINVAL,
			"image %s: len_bytes is %llu; it must be a multiple of %u, the page "
			"size of descriptor %d",
			image->name, (unsigned long long)image->len_bytes, page_bytes, fd);
	image->page_bytes = page_bytes;
	return 0;
}

/* The size limit of a tmpfs mount; 0: none, as on the kernel's internal mount. */
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
	/* Reopen for a file description of our own, because lseek(SEEK_DATA) moves its offset. */
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
 * Map the memfd at a multiple of 2 MiB, where it can be mapped by large folios, in address space
 * that is reserved first.  Return: the address; MAP_FAILED with errno.
 */
static void *map_aligned(const struct fln_image *image)
{
	uint64_t len = fln_align_up(image->len_bytes, FLN_PAGE_BYTES);
	char *place = fln_map_closed(NULL, len + FLN_BLOCK_BYTES,
				     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	uint64_t lead;
	void *p;
	int err;

	if (place == MAP_FAILED)
		return MAP_FAILED;
	lead = fln_align_up((uintptr_t)place, FLN_BLOCK_BYTES) - (uintptr_t)place;
	p = fln_map_closed(place + lead, len, MAP_SHARED | MAP_NORESERVE | MAP_FIXED, image->memfd,
			   0);
	err = errno;
	if (p == MAP_FAILED) {
		(void)munmap(place, len + FLN_BLOCK_BYTES);
		errno = err;
		return MAP_FAILED;
	}
	if (lead)
		(void)munmap(place, lead);
	(void)munmap(place + lead + len, FLN_BLOCK_BYTES - lead);
	return p;
}

/*
 * Map the alias.  For our own memfd of huge pages this reserves all of them, so that a shortage
 * is reported here and not while the guest runs.  Pages discarded later lose their
 * reservation.  Nothing is reserved for an adopted memfd, so hosts that overcommit huge pages
 * adopt.
 */
static int map_alias(struct fln_image *image, bool adopted)
{
	bool reserve = fln_image_is_huge(image) && !adopted;
	int err;

	image->alias = fln_image_is_huge(image)
			       ? fln_map_closed(NULL, image->len_bytes,
						MAP_SHARED | (reserve ? 0 : MAP_NORESERVE),
						image->memfd, 0)
			       : map_aligned(image);
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
	rc = fln_image_is_huge(image) ? fln_huge_check_writev(image) : 0;
	if (rc == 0)
		rc = map_alias(image, adopt);
	if (rc) {
		(void)close(image->memfd);
		return rc;
	}
	/*
	 * A core dump reads every mapping: through the alias it would fill every hole
	 * with a zero page, and include contents that the guest never accessed.
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
	/* This fails only without support for seals, or when F_SEAL_SEAL is set already. */
	(void)fcntl(image->memfd, F_ADD_SEALS, F_SEAL_SEAL);
}

void fln_image_close_memfd(struct fln_image *image)
{
	(void)munmap(image->alias, image->len_bytes);
	(void)close(image->memfd);
}
