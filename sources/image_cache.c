/* SPDX-License-Identifier: MIT */
/*
 * Access to an image's page cache: write, punch out, find holes.
 */
#include "sources/image_cache.h"

#include "base/error.h"
#include "base/file_size.h"
#include "base/plant.h"
#include "sources/huge.h"
#include "sources/image.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

static int write_failed(const struct fln_image *image, int err, uint64_t offset_bytes,
			uint64_t len_bytes)
{
	if (err == EFAULT)
		return fln_fail(EFAULT,
				"image %s: cannot read the buffer with the %llu bytes for "
				"offset %llu",
				image->name, (unsigned long long)len_bytes,
				(unsigned long long)offset_bytes);
	if (err == EFBIG)
		return fln_fail(
			EFBIG,
			"image %s: %llu bytes at offset %llu end beyond RLIMIT_FSIZE (%llu); "
			"raise it to the image's length, %llu",
			image->name, (unsigned long long)len_bytes,
			(unsigned long long)offset_bytes, (unsigned long long)fln_file_size_limit(),
			(unsigned long long)image->len_bytes);
	if (err == ENOSPC && image->room_bytes)
		return fln_fail(ENOSPC,
				"image %s: no space for %llu bytes at offset %llu: the file's "
				"tmpfs of %llu KiB is full; enlarge it (mount "
				"-o remount,size=)",
				image->name, (unsigned long long)len_bytes,
				(unsigned long long)offset_bytes,
				(unsigned long long)(image->room_bytes >> 10));
	if (fln_image_is_huge(image) && (err == ENOSPC || err == ENOMEM))
		return fln_huge_fail(image, err, 1);
	return fln_fail(err,
			"image %s: cannot write %llu bytes at offset %llu to the page cache: %s; "
			"give the machine or the cgroup more memory",
			image->name, (unsigned long long)len_bytes,
			(unsigned long long)offset_bytes, strerror(err));
}

int fln_image_write(struct fln_image *image, uint64_t page, const void *buf, uint32_t nr_pages)
{
	uint64_t done = 0, len = fln_pages_to_bytes(nr_pages), at = fln_pages_to_bytes(page);

	if (fln_image_is_huge(image)) {
		int rc = fln_huge_write(image, page, buf, nr_pages);

		if (rc == 0)
			return 0;
		(void)fln_image_punch(image, page, nr_pages);
		return write_failed(image, -rc, at, len);
	}
	/* No store hits this limit, but which folios there are must not matter to it. */
	if (!fln_file_size_permitted(at + len))
		return write_failed(image, EFBIG, at, len);
	/* What the alias refuses, the file tells why. */
	if (fln_folio_begin(&image->folios, page, nr_pages) &&
	    fln_alias_write(image, at, buf, len) == 0)
		done = len;
	while (done < len) {
		ssize_t n = pwrite(image->memfd, (const char *)buf + done, len - done,
				   (off_t)(at + done));
		int err = n < 0 ? errno : EIO;

		if (n < 0 && err == EINTR)
			continue;
		/* An adopted memfd was sealed meanwhile.  The alias is older than the seal. */
		if (n < 0 && err == EPERM && !image->read_only) {
			err = -fln_alias_write(image, at + done, (const char *)buf + done,
					       len - done);
			n = err ? -1 : (ssize_t)(len - done);
		}
		if (n <= 0) {
			/* A guest that discards these pages must read zeros. */
			(void)fln_image_punch(image, page, nr_pages);
			return write_failed(image, err, at + done, len - done);
		}
		done += (uint64_t)n;
	}
	return 0;
}

int fln_image_punch(struct fln_image *image, uint64_t page, uint64_t nr_pages)
{
	if (fln_image_is_huge(image))
		return fln_huge_punch(image, page, nr_pages);
	fln_folio_gone(&image->folios, page, nr_pages);
	if (fallocate(image->memfd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		      (off_t)fln_pages_to_bytes(page), (off_t)fln_pages_to_bytes(nr_pages)) == 0) {
		fln_folio_punched(&image->folios, page, nr_pages);
		return 0;
	}
	/* An adopted memfd was sealed meanwhile.  The alias is older than the seal. */
	if (errno == EPERM && !image->read_only)
		return fln_alias_zero(image, page, page + nr_pages);
	return fln_fail(errno, "image %s: punching %llu pages at page %llu: %s", image->name,
			(unsigned long long)nr_pages, (unsigned long long)page, strerror(errno));
}

int fln_image_empty(struct fln_image *image, uint64_t page, uint32_t nr_pages)
{
	if (fln_planted(FLN_BUG_HOLE_OVER_OLD))
		return 0;
	/* hugetlbfs does not tell holes.  Our own memfds hold only what we wrote. */
	if (fln_image_is_huge(image))
		return image->adopted ? fln_image_punch(image, page, nr_pages) : 0;
	/* A hole in a large folio takes memory, and stays in the page cache as zeros. */
	if (fln_image_block_is_large(image, page / FLN_BLOCK_PAGES))
		return 0;
	return fln_image_hole(image, page, nr_pages) == nr_pages
		       ? 0
		       : fln_image_punch(image, page, nr_pages);
}

void fln_image_punch_runs(struct fln_image *image, uint64_t page, const struct fln_mask *pages)
{
	uint32_t lo = 0, hi;

	for (; fln_mask_next_run(pages, &lo, &hi); lo = hi)
		(void)fln_image_punch(image, page + lo, hi - lo);
}

uint32_t fln_image_hole(const struct fln_image *image, uint64_t page, uint32_t nr_pages)
{
	uint64_t end = page + nr_pages;
	off_t next;

	/* On hugetlbfs only an install discovers a hole. */
	FLN_ASSERT(!fln_image_is_huge(image));
	next = lseek(image->memfd, (off_t)fln_pages_to_bytes(page), SEEK_DATA);
	/* ENXIO: a hole up to the end of the file. */
	if (next >= 0 && fln_bytes_to_pages((uint64_t)next) < end)
		end = fln_bytes_to_pages((uint64_t)next);
	return (uint32_t)(end - page);
}
