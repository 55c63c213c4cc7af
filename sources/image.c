/* SPDX-License-Identifier: MIT */
/*
 * Argument checks that public calls on images share, and simple getters.
 */
#include "sources/image.h"

#include "base/error.h"

#include <errno.h>

int fln_image_check_range(const struct fln_image *image, uint64_t offset_bytes, uint64_t len_bytes,
			  uint64_t unit_bytes)
{
	if (len_bytes == 0 || !fln_is_aligned(offset_bytes | len_bytes, unit_bytes))
		return fln_fail(EINVAL,
				"image %s: range of %llu bytes at offset %llu must be a non-empty "
				"multiple of %llu",
				image->name, (unsigned long long)len_bytes,
				(unsigned long long)offset_bytes, (unsigned long long)unit_bytes);
	if (offset_bytes > image->len_bytes || len_bytes > image->len_bytes - offset_bytes)
		return fln_fail(EINVAL,
				"image %s: range of %llu bytes at offset %llu ends beyond the "
				"image's %llu bytes",
				image->name, (unsigned long long)len_bytes,
				(unsigned long long)offset_bytes,
				(unsigned long long)image->len_bytes);
	return 0;
}

int fln_image_not_ours(const struct fln_image *image, const char *call)
{
	return fln_fail(EOPNOTSUPP,
			"image %s belongs to another process; call %s() there, where it was "
			"created",
			image->name, call);
}

int fln_image_memfd(const struct fln_image *image)
{
	return image->memfd;
}

uint64_t fln_image_filled_bytes(const struct fln_image *image)
{
	return fln_pages_to_bytes(atomic_load_explicit(&image->nr_done, memory_order_relaxed));
}
