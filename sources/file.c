/* SPDX-License-Identifier: MIT */
/*
 * A source that reads a raw file or a block device.
 *
 * The descriptor is our own, never shared with the embedder.  lseek() with
 * SEEK_DATA and SEEK_HOLE moves its file offset, from several threads at once;
 * that is harmless, because all reads are pread().
 *
 * The length is read once, when the file is opened.  If the file is truncated
 * later, reads beyond its new end fail; those pages are never treated as holes.
 */
#include "base/cancel.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/map.h"
#include "base/page.h"
#include "sources/source.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#ifndef SYS_cachestat
#define SYS_cachestat 451
#endif
#ifndef RWF_NOWAIT
#define RWF_NOWAIT 0x8
#endif

static_assert(sizeof(off_t) == 8, "file offsets have 64 bits");

struct file {
	int fd;
	/*
	 * Nobody touches it: mincore() tells by it what is in the page cache.  MAP_FAILED: that cannot
	 * be told.
	 */
	char *map;
	_Atomic bool reads_at_hand; /* the file system supports it, as far as is known */
	uint64_t offset_bytes;      /* where the contents begin */
	uint64_t len_bytes;         /* of the contents */
	char path[];
};

/* The file's current size; 0 when unknown. */
static uint64_t file_size_now(const struct file *f)
{
	struct stat st;

	if (fstat(f->fd, &st) != 0)
		return 0;
	/* fstat() gives no size for a block device; assume that it does not shrink in use. */
	return S_ISREG(st.st_mode) ? (uint64_t)st.st_size : f->offset_bytes + f->len_bytes;
}

static int64_t file_read(void *ctx, uint64_t offset_bytes, void *buf, uint64_t len_bytes)
{
	const struct file *f = ctx;
	ssize_t n;

	if (offset_bytes >= f->len_bytes)
		return 0;
	if (len_bytes > f->len_bytes - offset_bytes)
		len_bytes = f->len_bytes - offset_bytes;
	do
		n = pread(f->fd, buf, len_bytes, (off_t)(f->offset_bytes + offset_bytes));
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	if (n == 0)
		return fln_fail(
			ENODATA,
			"the file shrank from %llu to %llu bytes; do not truncate it while in use",
			(unsigned long long)(f->offset_bytes + f->len_bytes),
			(unsigned long long)file_size_now(f));
	return n;
}

/*
 * Is all of it in the page cache?  Linux 6.5; it takes a third of the time that mincore() takes.
 * False: not all of it is, or that cannot be told.
 */
static bool is_all_in_cache(const struct file *f, uint64_t offset_bytes, uint64_t len_bytes)
{
	struct {
		uint64_t offset_bytes, len_bytes;
	} range = { f->offset_bytes + offset_bytes, len_bytes };
	struct {
		uint64_t nr_cached, nr_others[4];
	} stat = { 0, { 0 } };

	return syscall(SYS_cachestat, f->fd, &range, &stat, 0) == 0 &&
	       stat.nr_cached == fln_bytes_to_pages(len_bytes);
}

static uint64_t file_at_hand(void *ctx, uint64_t offset_bytes, uint64_t len_bytes)
{
	const struct file *f = ctx;
	unsigned char in_cache[FLN_BLOCK_PAGES];
	uint64_t nr = 0, nr_pages = fln_bytes_to_pages(len_bytes);

	/* Bytes beyond the end of the contents are somebody else's. */
	if (!atomic_load_explicit(&f->reads_at_hand, memory_order_relaxed) ||
	    nr_pages > FLN_BLOCK_PAGES || offset_bytes > f->len_bytes ||
	    len_bytes > f->len_bytes - offset_bytes)
		return 0;
	if (is_all_in_cache(f, offset_bytes, len_bytes))
		return len_bytes;
	if (mincore(f->map + offset_bytes, len_bytes, in_cache) != 0)
		return 0;
	while (nr < nr_pages && in_cache[nr] & 1)
		nr++;
	return fln_pages_to_bytes(nr);
}

/* Not O_DIRECT.  RWF_NOWAIT stops at the first page that is not in the page cache. */
static int64_t file_read_at_hand(void *ctx, uint64_t offset_bytes, void *buf, uint64_t len_bytes)
{
	struct file *f = ctx;
	struct iovec to = { buf, len_bytes };
	uint64_t at = f->offset_bytes + offset_bytes;
	ssize_t n;

	/* Its upper half matters where a long has 32 bits only.  musl has no preadv2(). */
	n = syscall(SYS_preadv2, f->fd, &to, 1L, (unsigned long)at,
		    (unsigned long)(at >> (sizeof(long) * 4) >> (sizeof(long) * 4)), RWF_NOWAIT);
	/* The file system has no RWF_NOWAIT, or a filter permits no such call. */
	if (n < 0 && errno != EAGAIN && errno != EFAULT && errno != EINTR)
		atomic_store_explicit(&f->reads_at_hand, false, memory_order_relaxed);
	return n < 0 ? -errno : n;
}

/*
 * mincore() calls all pages resident, whatever is, in files that are neither the caller's nor
 * writable for it: they are not read at hand.
 */
static bool tells_residence(const struct file *f, const struct stat *st)
{
	char path[32];

	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", f->fd);
	return st->st_uid == geteuid() || faccessat(AT_FDCWD, path, W_OK, AT_EACCESS) == 0;
}

static void map_for_residence(struct file *f, const struct stat *st)
{
	f->map = MAP_FAILED;
	if (tells_residence(f, st))
		f->map = fln_map_closed(NULL, f->len_bytes, MAP_SHARED | MAP_NORESERVE, f->fd,
					(off_t)f->offset_bytes);
	atomic_init(&f->reads_at_hand, f->map != MAP_FAILED);
}

static void file_close(struct file *f)
{
	if (f->map != MAP_FAILED)
		(void)munmap(f->map, f->len_bytes);
	(void)close(f->fd);
}

static int64_t file_extent(void *ctx, uint64_t offset_bytes, uint64_t len_bytes, int *is_hole)
{
	const struct file *f = ctx;
	uint64_t begin = f->offset_bytes + offset_bytes;
	uint64_t end = begin + len_bytes;
	off_t data = lseek(f->fd, (off_t)begin, SEEK_DATA);
	off_t hole;

	if (data < 0 && errno == ENXIO) {
		/* No data up to the end of the file: a hole, unless the file was truncated (I6). */
		if (file_size_now(f) < f->offset_bytes + f->len_bytes)
			return -ENODATA;
		data = (off_t)end;
	}
	if (data < 0)
		return -errno;

	/* The file system's blocks, and so holes, may be smaller than a page. */
	if (fln_align_down((uint64_t)data, FLN_PAGE_BYTES) > begin) {
		uint64_t to = fln_align_down((uint64_t)data, FLN_PAGE_BYTES);

		*is_hole = 1;
		return (int64_t)((to < end ? to : end) - begin);
	}
	hole = lseek(f->fd, data, SEEK_HOLE);
	if (hole < 0)
		return -errno;
	*is_hole = 0;
	if ((uint64_t)hole < end)
		end = fln_align_up((uint64_t)hole, FLN_PAGE_BYTES);
	return (int64_t)(end - begin);
}

static void file_destroy(void *ctx)
{
	struct file *f = ctx;

	file_close(f);
	free(f);
}

static int check_type(const char *path, const struct stat *st)
{
	if (S_ISREG(st->st_mode) || S_ISBLK(st->st_mode))
		return 0;
	return fln_fail(EINVAL,
			"neither a regular file nor a block device; read it with a source of your "
			"own (fln_source_create): %s",
			path);
}

static int open_failed(int err, const char *path)
{
	char text[64];

	return fln_fail(err, "%s: %s", fln_strerror(err, text), path);
}

/* Open @f->path and determine its length; f->fd is set on success only. */
static int file_open(struct file *f, struct stat *st)
{
	off_t size;
	int fd;
	int rc;

	/* Check the type before open(), which would block on a FIFO, and again after it. */
	if (stat(f->path, st) != 0)
		return open_failed(errno, f->path);
	rc = check_type(f->path, st);
	if (rc)
		return rc;
	fd = fln_fd_keep(open(f->path, O_RDONLY | O_CLOEXEC));
	if (fd < 0)
		return open_failed(errno, f->path);

	if (fstat(fd, st) != 0) {
		rc = open_failed(errno, f->path);
		goto err_close;
	}
	rc = check_type(f->path, st);
	if (rc)
		goto err_close;
	size = S_ISREG(st->st_mode) ? st->st_size : lseek(fd, 0, SEEK_END);
	if (size < 0) {
		rc = open_failed(errno, f->path);
		goto err_close;
	}
	if (f->offset_bytes >= (uint64_t)size) {
		rc = fln_fail(EINVAL,
			      "offset %llu is not inside the file of %llu bytes; use a smaller "
			      "offset or another file: %s",
			      (unsigned long long)f->offset_bytes, (unsigned long long)size,
			      f->path);
		goto err_close;
	}
	f->len_bytes = (uint64_t)size - f->offset_bytes;
	f->fd = fd;
	return 0;

err_close:
	(void)close(fd);
	return rc;
}

int fln_source_open_file(const char *path, uint64_t offset_bytes, struct fln_source **out)
{
	FLN_UNCANCELLABLE;
	struct fln_source_ops ops = {
		.size = sizeof(ops),
		.concurrency = FLN_SOURCE_PARALLEL,
		.read = file_read,
		.destroy = file_destroy,
	};
	struct stat st;
	struct file *f;
	size_t path_bytes;
	int rc;

	if (!path || !out)
		return fln_fail(EINVAL, "fln_source_open_file: %s is NULL", path ? "out" : "path");
	if (!fln_is_aligned(offset_bytes, FLN_PAGE_BYTES))
		return fln_fail(
			EINVAL,
			"fln_source_open_file: offset %llu is not a multiple of %llu; align "
			"the contents in the file",
			(unsigned long long)offset_bytes, (unsigned long long)FLN_PAGE_BYTES);

	path_bytes = strlen(path) + 1;
	f = malloc(sizeof(*f) + path_bytes);
	if (!f)
		return fln_fail(ENOMEM, "no memory for a source");
	f->offset_bytes = offset_bytes;
	memcpy(f->path, path, path_bytes);
	rc = file_open(f, &st);
	if (rc)
		goto err_free;

	ops.name = f->path;
	/* Block devices do not support SEEK_DATA (EINVAL). */
	if (S_ISREG(st.st_mode))
		ops.extent = file_extent;
	map_for_residence(f, &st);
	rc = fln_source_make(&ops, f, f->len_bytes, out);
	if (rc)
		goto err_close;
	(*out)->at_hand = file_at_hand;
	(*out)->read_at_hand = file_read_at_hand;
	return 0;

err_close:
	file_close(f);
err_free:
	free(f);
	return rc;
}
