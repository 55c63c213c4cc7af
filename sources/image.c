/* SPDX-License-Identifier: MIT */
/*
 * Argument checks that public calls on images share, and simple getters.
 */
#include "sources/image.h"

#include "base/cancel.h"
#include "base/error.h"
#include "base/fork.h"

#include <errno.h>
#include <sys/stat.h>

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

int fln_image_memory_stats(const struct fln_image *image, struct fln_memory_stats *out)
{
	FLN_UNCANCELLABLE;
	struct fln_memory_stats stats = FLN_MEMORY_STATS_INIT;
	const struct fln_folios *f;
	uint64_t spare;
	struct stat st;
	int rc = FLN_CALL_REFUSED(image, out);

	if (rc)
		return rc;
	f = &image->folios;
	if (fstat(image->memfd, &st) != 0)
		return fln_fail(errno, "image %s: fstat: %s", image->name, strerror(errno));
	stats.filled_bytes = fln_image_filled_bytes(image);
	stats.memory_bytes = (uint64_t)st.st_blocks * 512;
	stats.large_blocks = atomic_load_explicit(&f->nr_large, memory_order_relaxed);
	stats.refused_blocks = atomic_load_explicit(&f->nr_refused, memory_order_relaxed);
	stats.bounded_blocks = atomic_load_explicit(&f->nr_bounded, memory_order_relaxed);
	spare = atomic_load_explicit(&f->nr_spare, memory_order_relaxed);
	stats.spare_bytes = fln_pages_to_bytes(spare);
	return fln_out_copy(out, &stats, sizeof(stats), "fln_memory_stats");
}

uint64_t fln_image_filled_bytes(const struct fln_image *image)
{
	return fln_pages_to_bytes(atomic_load_explicit(&image->nr_done, memory_order_relaxed));
}
