/* SPDX-License-Identifier: MIT */
/* Checks the embedder's allocator table; the default table calls the C library. */
#include "base/alloc.h"

#include "base/error.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FLN_CACHE_LINE 64u

static void *libc_alloc(void *ctx, size_t size_bytes, size_t align_bytes, uint32_t node)
{
	void *ptr = NULL;

	(void)ctx;
	(void)node;
	return posix_memalign(&ptr, align_bytes, size_bytes) == 0 ? ptr : NULL;
}

static void libc_free(void *ctx, void *ptr, size_t size_bytes, uint32_t node)
{
	(void)ctx;
	(void)size_bytes;
	(void)node;
	free(ptr);
}

int fln_alloc_init(struct fln_allocator *into, const struct fln_allocator *from)
{
	int rc = fln_opts_copy(into, sizeof(*into), from, "fln_allocator");

	if (rc)
		return rc;
	if (!into->alloc != !into->free)
		return fln_fail(EINVAL, "fln_allocator: %s is NULL; give both functions or none",
				into->alloc ? "free" : "alloc");
	if (!into->alloc) {
		into->alloc = libc_alloc;
		into->free = libc_free;
	}
	return 0;
}

void *fln_zalloc(const struct fln_allocator *a, size_t size_bytes, uint32_t node)
{
	void *ptr = a->alloc(a->ctx, size_bytes, FLN_CACHE_LINE, node);

	if (ptr)
		memset(ptr, 0, size_bytes);
	return ptr;
}

void fln_free(const struct fln_allocator *a, void *ptr, size_t size_bytes, uint32_t node)
{
	if (ptr)
		a->free(a->ctx, ptr, size_bytes, node);
}
