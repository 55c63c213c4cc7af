/* SPDX-License-Identifier: MIT */
/*
 * The page cache of images of huge pages: where hugetlbfs differs from shmem.
 *
 * hugetlbfs has no write(2).  A memcpy() to the alias raises SIGBUS in a hole when the pool is
 * empty, so we first fallocate(), which fails with ENOSPC, and then copy with
 * process_vm_writev(), which fails with EFAULT if the page is punched out meanwhile.
 *
 * FALLOC_FL_PUNCH_HOLE frees whole huge pages only.  We zero partial pages by hand, because
 * kernels before 5.19 leave their contents.
 */
#include "sources/huge.h"
#include "sources/image.h"

#include "base/error.h"
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#define POOL_DIR "/sys/kernel/mm/hugepages/hugepages-2048kB/"
#define PUNCH_RACE_RETRIES 4u /* for a page that is punched out while it is written */

static uint64_t read_pool_count(const char *name)
{
	char path[96];
	uint64_t value = 0;

	(void)snprintf(path, sizeof(path), POOL_DIR "%s", name);
	(void)fln_fd_read_number(path, 0, &value);
	return value;
}

int fln_huge_fail(const struct fln_image *image, int err, uint64_t nr_huge)
{
	uint64_t nr_free = read_pool_count("free_hugepages");
	uint64_t nr_reserved = read_pool_count("resv_hugepages");
	uint64_t nr_left = nr_free > nr_reserved ? nr_free - nr_reserved : 0;

	return fln_fail(
		err,
		"image %s: needs %llu huge pages of 2 MiB, but only %llu of %llu are free and "
		"unreserved; raise vm.nr_hugepages by %llu",
		image->name, (unsigned long long)nr_huge, (unsigned long long)nr_left,
		(unsigned long long)read_pool_count("nr_hugepages"),
		(unsigned long long)(nr_huge > nr_left ? nr_huge - nr_left : 1));
}

int fln_huge_check_writev(const struct fln_image *image)
{
	char from = 1, to = 0;
	struct iovec local = { &from, 1 }, remote = { &to, 1 };

	if (process_vm_writev(getpid(), &local, 1, &remote, 1, 0) == 1)
		return 0;
	return fln_fail(EOPNOTSUPP,
			"image %s: process_vm_writev() fails: %s; images of huge pages need it: "
			"permit it in the seccomp filter",
			image->name, strerror(errno));
}

int fln_huge_allocate(struct fln_image *image, uint64_t page)
{
	uint64_t at = fln_pages_to_bytes(fln_align_down(page, FLN_BLOCK_PAGES));

	FLN_DEBUG_ASSERT(fln_image_is_huge(image));
	fln_lock_assert_none(); /* I2: fallocate() clears the page, and may wait for others */
	for (;;) {
		if (fallocate(image->memfd, 0, (off_t)at, (off_t)FLN_BLOCK_BYTES) == 0)
			return 0;
		if (errno != EINTR)
			return -errno;
	}
}

int fln_alias_write(const struct fln_image *image, uint64_t at, const char *buf, uint64_t len)
{
	while (len > 0) {
		struct iovec local = { (char *)(uintptr_t)buf, len };
		struct iovec remote = { image->alias + at, len };
		ssize_t n = process_vm_writev(getpid(), &local, 1, &remote, 1, 0);

		if (n < 0)
			return -errno;
		if (n == 0)
			return -EIO;
		at += (uint64_t)n;
		buf += n;
		len -= (uint64_t)n;
	}
	return 0;
}

int fln_huge_write(struct fln_image *image, uint64_t page, const void *buf, uint32_t nr_pages)
{
	int rc = 0;

	FLN_DEBUG_ASSERT(page / FLN_BLOCK_PAGES == (page + nr_pages - 1) / FLN_BLOCK_PAGES);
	for (uint32_t i = 0; i < PUNCH_RACE_RETRIES; i++) {
		rc = fln_huge_allocate(image, page);
		if (rc)
			return rc;
		rc = fln_alias_write(image, fln_pages_to_bytes(page), buf,
				     fln_pages_to_bytes(nr_pages));
		/*
		 * EFAULT: the page was punched out after fallocate() with the pool empty (retry:
		 * fallocate() then reports ENOSPC), or @buf is unreadable (every retry fails).
		 */
		if (rc != -EFAULT)
			return rc;
	}
	return rc;
}

/*
 * -EFAULT means a hole while the pool is empty: the file already reads as zeros there.
 * (With huge pages free this allocates one.)
 */
int fln_alias_zero(const struct fln_image *image, uint64_t page, uint64_t end)
{
	static const char zeros[FLN_PAGE_BYTES];

	for (; page < end; page++) {
		int rc = fln_alias_write(image, fln_pages_to_bytes(page), zeros, FLN_PAGE_BYTES);

		if (rc && rc != -EFAULT)
			return fln_fail(-rc, "image %s: zeroing page %llu: %s", image->name,
					(unsigned long long)page, strerror(-rc));
	}
	return 0;
}

int fln_huge_punch(struct fln_image *image, uint64_t page, uint64_t nr_pages)
{
	uint64_t end = page + nr_pages;
	uint64_t lo = fln_align_up(page, FLN_BLOCK_PAGES),
		 hi = fln_align_down(end, FLN_BLOCK_PAGES);
	int rc;

	if (lo >= hi) {
		/* No whole huge page in the range: zero all of it. */
		return fln_alias_zero(image, page, end);
	}
	rc = fln_alias_zero(image, page, lo);
	if (rc == 0)
		rc = fln_alias_zero(image, hi, end);
	if (rc == 0 &&
	    fallocate(image->memfd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		      (off_t)fln_pages_to_bytes(lo), (off_t)fln_pages_to_bytes(hi - lo)) != 0)
		rc = fln_fail(errno, "image %s: punching %llu pages at page %llu: %s", image->name,
			      (unsigned long long)(hi - lo), (unsigned long long)lo,
			      strerror(errno));
	return rc;
}
