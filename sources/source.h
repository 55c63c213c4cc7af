/* SPDX-License-Identifier: MIT */
/*
 * A source, seen from inside: the embedder's table, a name, and references.
 */
#ifndef FLN_SOURCES_SOURCE_H
#define FLN_SOURCES_SOURCE_H

#include <faultlane/source.h>
#include <stdatomic.h>
#include <stdint.h>

struct fln_source {
	struct fln_source_ops ops;
	void *ctx;
	uint64_t len_bytes; /* length when it is known, else UINT64_MAX */
	/*
	 * The contents lie here, in memory of this process that may be a mapping of a file:
	 * they are handed to system calls, never read, which could be a signal.  Or NULL.
	 */
	const char *memory;
	_Atomic uint32_t nr_refs;
};

/* Like fln_source_create(), with the length, for sources that know it. */
int fln_source_make(const struct fln_source_ops *ops, void *ctx, uint64_t len_bytes,
		    struct fln_source **out);

void fln_source_get(struct fln_source *source);
void fln_source_put(struct fln_source *source);

/*
 * Read all of [offset, offset + len), going on after short reads.
 * Return: 0; -ENODATA when the contents end before (the sentence names the
 * offset); -EIO for a source that returns nonsense; or what the source returned.
 */
int fln_source_read_all(struct fln_source *source, uint64_t offset_bytes, void *buf,
			uint64_t len_bytes);

/*
 * The same, for a caller that hands the contents to a system call: *contents is @buf, or where the
 * source has them.  Return: as fln_source_read_all(); -EFAULT when they cannot be read.
 */
int fln_source_fetch(struct fln_source *source, uint64_t offset_bytes, void *buf,
		     uint64_t len_bytes, const void **contents);

/*
 * How many bytes from @offset on are alike, at most @len_bytes, in whole pages
 * (a page that is partly a hole counts as data); *is_hole says which.
 */
uint64_t fln_source_extent(struct fln_source *source, uint64_t offset_bytes, uint64_t len_bytes,
			   int *is_hole);

#endif
