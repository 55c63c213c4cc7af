/* SPDX-License-Identifier: MIT */
/*
 * Sources: the origin of page contents, such as a file, memory or the embedder's functions.
 */
#ifndef FAULTLANE_SOURCE_H
#define FAULTLANE_SOURCE_H

#include <faultlane/base.h>

#ifdef __cplusplus
extern "C" {
#endif

struct fln_source;

enum fln_source_concurrency {
	FLN_SOURCE_SERIAL,   /* one call at a time, from any thread */
	FLN_SOURCE_PARALLEL, /* any number of calls at a time */
	FLN_SOURCE_NR_CONCURRENCY
};

/**
 * struct fln_source_ops - Functions of a source that the embedder implements
 * @size:        sizeof(struct fln_source_ops)
 * @name:        for messages; a string that lives as long as the source
 * @concurrency: whether the library may call @read and @extent concurrently
 * @reserved:    zero
 * @read:        read @len_bytes from @offset_bytes into @buf, which is page-aligned; both
 *               are multiples of the page size.  Returns the bytes read or a negative
 *               errno; 0 means the end of the contents, which is an error within an
 *               image.  After a short read the next call continues where it ended, so
 *               @buf, @len_bytes and @offset_bytes are then only as aligned as the
 *               returned length.  A source that needs alignment (O_DIRECT) returns
 *               multiples of it
 * @extent:      optional.  Describes the contents from @offset_bytes on: returns the
 *               length (positive, at most @len_bytes) of a run of data or of zeros, and
 *               sets *@is_hole if it is zeros, which are not read.  After a negative
 *               errno everything is read
 * @destroy:     optional.  Called once, when no image uses the source any more and
 *               fln_source_destroy() was called
 *
 * Called on filler threads and in fln_image_fill(); never with a lock held.
 * The functions must not call into the library, except fln_image_put().
 */
struct fln_source_ops {
	size_t size;
	const char *name;
	enum fln_source_concurrency concurrency;
	uint32_t reserved;
	int64_t (*read)(void *ctx, uint64_t offset_bytes, void *buf, uint64_t len_bytes);
	int64_t (*extent)(void *ctx, uint64_t offset_bytes, uint64_t len_bytes, int *is_hole);
	void (*destroy)(void *ctx);
};

/**
 * fln_source_create() - Make a source from functions of the embedder
 * @ops: copied
 * @ctx: passed to every function of @ops
 * @out: the source; written only on success
 *
 * Return:  0; -EINVAL, -E2BIG, -ENOMEM
 * Threads: any
 * Blocks:  no
 */
FLN_API int fln_source_create(const struct fln_source_ops *ops, void *ctx, struct fln_source **out);

/**
 * fln_source_open_file() - Make a source from a raw file, whose holes are not read
 * @path:         the file; opened for reading
 * @offset_bytes: where the contents begin in it, a multiple of the page size
 * @out:          the source; written only on success
 *
 * Return:  0; -EINVAL, -ENOMEM, or a negative errno of open()
 * Threads: any
 * Blocks:  for open()
 */
FLN_API int fln_source_open_file(const char *path, uint64_t offset_bytes, struct fln_source **out);

/**
 * fln_source_from_memory() - Make a source from memory of this process
 * @addr:      the contents; not copied, must outlive the source
 * @len_bytes: their length
 * @out:       the source; written only on success
 *
 * Memory that cannot be read, such as a mapping beyond the end of a truncated file, makes the
 * read fail with -EFAULT and raises no signal.
 *
 * Return:  0; -EINVAL, -ENOMEM
 * Threads: any
 * Blocks:  no
 */
FLN_API int fln_source_from_memory(const void *addr, uint64_t len_bytes, struct fln_source **out);

/**
 * struct fln_source_delay_opts - Which reads fln_source_with_delay() delays
 * @size:         sizeof(struct fln_source_delay_opts)
 * @delay_ns:     delay of a read that covers a delayed page
 * @every_pages:  the contents are divided into parts of this many pages, and every
 *                second part is delayed; 0: all pages are delayed
 */
struct fln_source_delay_opts {
	size_t size;
	uint64_t delay_ns;
	uint64_t every_pages;
};

#define FLN_SOURCE_DELAY_OPTS_INIT FLN_SIZED(struct fln_source_delay_opts)

/**
 * fln_source_with_delay() - Slow another source down, for tests
 * @inner: the source to read from; the wrapper holds a reference
 * @opts:  which reads to delay
 * @out:   the source; written only on success
 *
 * Return:  0; -EINVAL, -E2BIG, -ENOMEM
 * Threads: any
 * Blocks:  no
 */
FLN_API int fln_source_with_delay(struct fln_source *inner,
				  const struct fln_source_delay_opts *opts,
				  struct fln_source **out);

/**
 * struct fln_source_error_opts - Which reads fln_source_with_errors() fails
 * @size:          sizeof(struct fln_source_error_opts)
 * @offset_bytes:  start of the range whose reads fail
 * @len_bytes:     length of that range; 0: all of the contents
 * @seed:          seeds the random choice; the same seed fails the same reads
 * @error:         errno (positive) that a failing read returns; 0: the read is short
 *                 instead
 * @fail_percent:  percentage of reads that fail; 0: all
 * @nr_failures:   reads to fail in all; 0: no limit
 */
struct fln_source_error_opts {
	size_t size;
	uint64_t offset_bytes;
	uint64_t len_bytes;
	uint64_t seed;
	uint32_t error;
	uint32_t fail_percent;
	uint64_t nr_failures;
};

#define FLN_SOURCE_ERROR_OPTS_INIT FLN_SIZED(struct fln_source_error_opts)

/**
 * fln_source_with_errors() - Make another source fail, for tests
 * @inner: the source to read from; the wrapper holds a reference
 * @opts:  which reads fail
 * @out:   the source; written only on success
 *
 * Return:  0; -EINVAL, -E2BIG, -ENOMEM
 * Threads: any
 * Blocks:  no
 */
FLN_API int fln_source_with_errors(struct fln_source *inner,
				   const struct fln_source_error_opts *opts,
				   struct fln_source **out);

/**
 * fln_source_destroy() - Drop the caller's reference; NULL is permitted
 *
 * Images that use the source keep it alive.
 *
 * Threads: any, except inside the source's own functions
 * Blocks:  in the source's destroy function, if this was the last reference
 */
FLN_API void fln_source_destroy(struct fln_source *source);

#ifdef __cplusplus
}
#endif

#endif
