/* SPDX-License-Identifier: MIT */
/*
 * A source from the inside: the embedder's functions, and a reference count.  Its calls may
 * block for as long as the embedder's functions do; no lock may be held (I2).
 */
#ifndef FLN_SOURCES_SOURCE_H
#define FLN_SOURCES_SOURCE_H

#include <faultlane/source.h>
#include <stdatomic.h>
#include <stdint.h>

struct fln_source {
	struct fln_source_ops ops;
	void *ctx;
	uint64_t len_bytes; /* UINT64_MAX: unknown */
	/*
	 * A source in memory: its address; else NULL.  It may be a mapping of a file that is
	 * truncated, so it is only passed to system calls: reading it directly could raise SIGBUS.
	 */
	const char *memory;
	/*
	 * Optional, both or none.  at_hand() tells how many bytes from @offset_bytes on can be read
	 * without I/O, such as what of a file is in the page cache, and does not wait for a device.
	 * read_at_hand() reads such bytes, which may no longer be there: then it does not wait for
	 * them.  Return: the bytes read, from @offset_bytes on; 0 or a negative errno: none.  @buf
	 * may lie in the alias of an image, where a store may fail.
	 */
	uint64_t (*at_hand)(void *ctx, uint64_t offset_bytes, uint64_t len_bytes);
	int64_t (*read_at_hand)(void *ctx, uint64_t offset_bytes, void *buf, uint64_t len_bytes);
	_Atomic uint32_t nr_refs;
	/*
	 * What reading a page takes, averaged over the last reads; 0: unknown.  A hint, which threads
	 * change without a lock.
	 */
	_Atomic uint32_t page_ns;
};

/* fln_source_create() for sources of known length. */
int fln_source_make(const struct fln_source_ops *ops, void *ctx, uint64_t len_bytes,
		    struct fln_source **out);

void fln_source_get(struct fln_source *source);
void fln_source_put(struct fln_source *source);

/*
 * Read all of [offset, offset + len), continuing after short reads.
 * Return: 0; -ENODATA when the contents end earlier (the message names the
 * offset); -EIO when the source returned an invalid value; or the error of the source.
 */
int fln_source_read_all(struct fln_source *source, uint64_t offset_bytes, void *buf,
			uint64_t len_bytes);

/*
 * How many bytes from @offset_bytes on, at most @len_bytes, fln_source_read_at_hand() would read
 * now.
 */
uint64_t fln_source_at_hand(struct fln_source *source, uint64_t offset_bytes, uint64_t len_bytes);

/*
 * Read what of [offset, offset + len) needs no I/O; fln_source_at_hand() has said that all of it
 * does not.  Return: the bytes read, from the beginning; possibly 0.
 */
uint64_t fln_source_read_at_hand(struct fln_source *source, uint64_t offset_bytes, void *buf,
				 uint64_t len_bytes);

/*
 * fln_source_read_all() for callers that only pass the contents to a system call: *contents is @buf, or
 * points into a source in memory.  Return: as fln_source_read_all(); -EFAULT when unreadable.
 */
int fln_source_fetch(struct fln_source *source, uint64_t offset_bytes, void *buf,
		     uint64_t len_bytes, const void **contents);

/* Reading @nr_pages has taken @ns: for page_ns. */
void fln_source_note(struct fln_source *source, uint32_t nr_pages, uint64_t ns);

/*
 * The length of the hole or of the data at @offset, at most @len_bytes; *is_hole tells which.
 * Always whole pages: a page that is partly a hole counts as data.
 */
uint64_t fln_source_extent(struct fln_source *source, uint64_t offset_bytes, uint64_t len_bytes,
			   int *is_hole);

#endif
