/* SPDX-License-Identifier: MIT */
/*
 * What all other headers share: visibility, errors, log, allocator.
 *
 * Conventions of the whole API
 *  - Functions return 0 or a negative errno; results come through the last
 *    argument, which is written only on success.
 *  - Every options struct begins with its own size.  Start from its _INIT
 *    macro (tables of functions have none: write .size = sizeof yourself): zero
 *    always means "the default".  A struct shorter than the
 *    library's is padded with zeros; a longer one is accepted when what the
 *    library does not know is zero, and refused with -E2BIG when it is not.
 *  - Sizes and offsets are in bytes (_bytes) unless the name says _pages.
 *  - Handles are opaque.  destroy functions accept NULL.
 *  - A child of fork() has nothing of an engine that was made before: its calls
 *    return -ECHILD and change nothing, until it calls exec().  It need not be told:
 *    it may end by exit(), and its parent goes on.
 *  - "Threads: any" means at the same time, too: calls that begin or end
 *    something wait for one another.  A caller that destroys an object (removes a
 *    region) sees to it that no other thread uses its handle then or later.
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

/* What the _INIT macros are made of: all defaults, and the size. */
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
 * fln_version() - Version of the library that is loaded, such as "0.1.0"
 *
 * Return:  a static string, never NULL
 * Threads: any
 * Blocks:  no
 */
FLN_API const char *fln_version(void);

/**
 * fln_last_error() - What the last failed call of this thread had to say
 *
 * One sentence for people: it names the value that was refused and the remedy.
 * The code that the call returned is the contract; this text is not.
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
 * typedef fln_log_fn - Receives one line, without a newline at its end
 *
 * It may ask for statistics; it must not begin or end anything of the library.
 *
 * Threads: called on any thread, the embedder's own during its calls too; never
 *          under a lock of the library
 * Blocks:  it should not: a worker may be the caller
 */
typedef void (*fln_log_fn)(void *ctx, enum fln_log_level level, const char *msg);

/**
 * struct fln_allocator - Where the library takes its own memory from
 * @size:  sizeof(struct fln_allocator)
 * @ctx:   passed to both functions
 * @alloc: returns @size_bytes aligned to @align_bytes (a power of two), on or
 *         near NUMA node @node (UINT32_MAX: anywhere), or NULL
 * @free:  takes back what @alloc gave, with the same size and node
 *
 * Called when objects are created and destroyed, threads start and stop, and by
 * fln_image_fill(), populate, lock, advice and fln_engine_stats_prometheus(); never on the
 * fault path.
 * Both functions are called on any thread.
 */
struct fln_allocator {
	size_t size;
	void *ctx;
	void *(*alloc)(void *ctx, size_t size_bytes, size_t align_bytes, uint32_t node);
	void (*free)(void *ctx, void *ptr, size_t size_bytes, uint32_t node);
};

/* "Any NUMA node", wherever a node is asked for. */
#define FLN_NODE_ANY UINT32_MAX

#ifdef __cplusplus
}
#endif

#endif
