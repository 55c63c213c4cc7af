/* SPDX-License-Identifier: MIT */
/*
 * Declarations shared by all other headers: visibility, errors, log, allocator.
 *
 * Conventions of the whole API
 *  - Functions return 0 or a negative errno; results come through the last
 *    argument, which is written only on success.
 *  - Every options struct begins with its own size.  Start from its _INIT
 *    macro (tables of functions have none: write .size = sizeof yourself): zero
 *    always means "the default".  A struct shorter than the
 *    library's is padded with zeros; a longer one is accepted if the part
 *    unknown to the library is zero, else refused with -E2BIG.
 *  - Sizes and offsets are in bytes (_bytes) unless the name says _pages.
 *  - Handles are opaque.  destroy functions accept NULL.
 *  - A forked child cannot use an engine created by its parent: its calls return
 *    -ECHILD and change nothing, until it calls exec().  It may simply exit(), and
 *    its parent is not affected.
 *  - "Threads: any" includes concurrent calls: calls that create or destroy objects
 *    wait for one another.  The caller that destroys an object (removes a region)
 *    makes sure that no other thread uses its handle, then or later.
 */
#ifndef FAULTLANE_BASE_H
#define FAULTLANE_BASE_H

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define FLN_API __attribute__((visibility("default")))
#else
#define FLN_API
#endif

/* Expands to a struct of all defaults with its size set, for the _INIT macros. */
#ifdef __cplusplus
extern "C++" { /* the including file may have said extern "C" */
template <class T> inline T fln_sized()
{
	T all_defaults = T();

	all_defaults.size = sizeof(T);
	return all_defaults;
}
}
#define FLN_SIZED(type) fln_sized<type>()
#else
#define FLN_SIZED(type)              \
	{                            \
		.size = sizeof(type) \
	}
#endif

#ifdef __cplusplus
extern "C" {
#endif

/**
 * fln_version() - Version of the loaded library, such as "0.1.0"
 *
 * Return:  a static string, never NULL
 * Threads: any
 * Blocks:  no
 */
FLN_API const char *fln_version(void);

/**
 * fln_last_error() - Explains the last failed call of this thread
 *
 * One sentence for people, which names the refused value and the remedy.
 * Programs act on the returned code: this text may change.
 *
 * Return:  a string, empty when no call of this thread has failed yet; it is
 *          valid until this thread's next fln_ call
 * Threads: any; the text is thread-local
 * Blocks:  no
 */
FLN_API const char *fln_last_error(void);

enum fln_log_level {
	FLN_LOG_ERROR,
	FLN_LOG_WARNING,
	FLN_LOG_INFO,
	FLN_LOG_DEBUG,
	FLN_LOG_NR_LEVELS
};

/**
 * typedef fln_log_fn - Receives one line, without a trailing newline
 *
 * It may query statistics; it must not create, start, stop or destroy objects.
 *
 * Threads: called on any thread, also on the embedder's own during its calls; never
 *          under a lock of the library
 * Blocks:  it should not: the caller may be a worker
 */
typedef void (*fln_log_fn)(void *ctx, enum fln_log_level level, const char *msg);

/**
 * struct fln_allocator - Allocates the library's own memory
 * @size:  sizeof(struct fln_allocator)
 * @ctx:   passed to both functions
 * @alloc: returns @size_bytes aligned to @align_bytes (a power of two), on or
 *         near NUMA node @node (UINT32_MAX: anywhere), or NULL
 * @free:  frees memory returned by @alloc, with the same size and node
 *
 * Called when objects are created and destroyed, when threads start and stop, and by
 * fln_image_fill(), populate, lock, advice and fln_engine_stats_prometheus(); never on the
 * fault path.  Both functions are called on any thread.
 */
struct fln_allocator {
	size_t size;
	void *ctx;
	void *(*alloc)(void *ctx, size_t size_bytes, size_t align_bytes, uint32_t node);
	void (*free)(void *ctx, void *ptr, size_t size_bytes, uint32_t node);
};

/* Any NUMA node, in parameters named node. */
#define FLN_NODE_ANY UINT32_MAX

#ifdef __cplusplus
}
#endif

#endif
