/* SPDX-License-Identifier: MIT */
/*
 * Sources: where page contents come from.
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
 * struct fln_source_ops - A source of the embedder's own
 * @size:        sizeof(struct fln_source_ops)
 * @name:        for messages; a string that lives as long as the source
 * @concurrency: what the library may do at the same time
 * @read:        fill @buf (page-aligned) with @len_bytes from @offset_bytes, both
 *               multiples of the page size.  Returns the bytes read or a
 *               negative errno; 0 is the end of the contents: an error inside an
 *               image.  When fewer bytes than asked for are returned, the next call
 *               asks for the rest: @buf, @len_bytes and @offset_bytes are then where
 *               the call before ended, and aligned only if that was.  A source that
 *               needs alignment (O_DIRECT) returns multiples of what it needs
 * @extent:      optional.  Describes the contents from @offset_bytes on: returns
 *               how many bytes (positive, at most @len_bytes) are alike and sets
 *               @is_hole when they are all zero and need not be read; or a
 *               negative errno: then everything is read
 * @destroy:     optional.  Called once, when the last image is gone and
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
 * fln_source_create() - A source that calls the embedder
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
 * fln_source_open_file() - A raw file; its holes are not read
 * @path:         the file; opened for reading
 * @offset_bytes: where the contents begin in it, a multiple of the page size
 * @out:          the source; written only on success
 *
 * Return:  0; -EINVAL, -ENOMEM, or what open() returned
 * Threads: any
 * Blocks:  for open()
 */
FLN_API int fln_source_open_file(const char *path, uint64_t offset_bytes, struct fln_source **out);

/**
 * fln_source_from_memory() - Contents that lie in this process's memory
 * @addr:      the contents; not copied, must outlive the source
 * @len_bytes: their length
 * @out:       the source; written only on success
 *
 * Memory that cannot be read any more, as a mapping behind the end of a file that was
 * made shorter, fails the pages that are due from there (-EFAULT), and raises no signal.
 *
 * Return:  0; -EINVAL, -ENOMEM
 * Threads: any
 * Blocks:  no
 */
FLN_API int fln_source_from_memory(const void *addr, uint64_t len_bytes, struct fln_source **out);

/**
 * struct fln_source_delay_opts - What fln_source_with_delay() delays
 * @size:         sizeof(struct fln_source_delay_opts)
 * @delay_ns:     time that a read takes longer when it touches a delayed page
 * @every_pages:  the contents are cut into parts of so many pages, and every
 *                second part is delayed; 0: everything is
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
 * @opts:  what to delay
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
 * struct fln_source_error_opts - What fln_source_with_errors() breaks
 * @size:          sizeof(struct fln_source_error_opts)
 * @offset_bytes:  only reads that touch [@offset_bytes, +@len_bytes) fail;
 *                 @len_bytes 0: all of it
 * @len_bytes:     see above
 * @seed:          of the random choice; the same seed fails the same reads
 * @error:         errno that a failing read returns (positive); 0: the read
 *                 comes back short instead
 * @fail_percent:  how many of 100 reads fail; 0: all
 * @nr_failures:   fail so many reads in all, then none; 0: no end
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
 * @opts:  what fails
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
 * fln_source_destroy() - Give up the caller's reference; NULL is permitted
 *
 * Images that use the source keep it alive.
 *
 * Threads: any, except inside the source's own functions
 * Blocks:  in the source's destroy function, when this was the last reference
 */
FLN_API void fln_source_destroy(struct fln_source *source);

#ifdef __cplusplus
}
#endif

#endif
