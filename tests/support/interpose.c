/* SPDX-License-Identifier: MIT */
/* An allocator in the program; see interpose.h. */
#include "tests/support/interpose.h"

#include <errno.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif

static _Atomic uint64_t nr_calls, nr_watched;
static _Atomic bool watching;
static void *_Atomic first_caller;

_Thread_local bool interpose_inside;

bool interpose_works(void)
{
#ifdef SANITIZED
	return false;
#else
	return true;
#endif
}

uint64_t interpose_nr_calls(void)
{
	return atomic_load(&nr_calls);
}

void interpose_watch(bool on)
{
	if (on) {
		atomic_store(&nr_watched, 0);
		atomic_store(&first_caller, NULL);
	}
	atomic_store(&watching, on);
}

uint64_t interpose_nr_watched(void **caller)
{
	*caller = atomic_load(&first_caller);
	return atomic_load(&nr_watched);
}

#ifndef SANITIZED
/* Seen by the C library and all others, whatever the rest of the build hides. */
#pragma GCC visibility push(default)
void *__libc_malloc(size_t len);
void *__libc_calloc(size_t nr, size_t len);
void *__libc_realloc(void *ptr, size_t len);
void *__libc_memalign(size_t align, size_t len);
void __libc_free(void *ptr);

static void note(void *caller)
{
	char name[16] = "";
	void *none = NULL;

	atomic_fetch_add_explicit(&nr_calls, 1, memory_order_relaxed);
	if (!atomic_load_explicit(&watching, memory_order_relaxed))
		return;
	(void)prctl(PR_GET_NAME, name);
	if (strncmp(name, "fln-", 4) != 0 && !interpose_inside)
		return;
	atomic_fetch_add(&nr_watched, 1);
	(void)atomic_compare_exchange_strong(&first_caller, &none, caller);
}

void *malloc(size_t len)
{
	note(__builtin_return_address(0));
	return __libc_malloc(len);
}

void *calloc(size_t nr, size_t len)
{
	note(__builtin_return_address(0));
	return __libc_calloc(nr, len);
}

void *realloc(void *ptr, size_t len)
{
	note(__builtin_return_address(0));
	return __libc_realloc(ptr, len);
}

void *memalign(size_t align, size_t len)
{
	note(__builtin_return_address(0));
	return __libc_memalign(align, len);
}

void *aligned_alloc(size_t align, size_t len)
{
	note(__builtin_return_address(0));
	return __libc_memalign(align, len);
}

int posix_memalign(void **out, size_t align, size_t len)
{
	void *ptr;

	note(__builtin_return_address(0));
	ptr = __libc_memalign(align, len);
	if (!ptr)
		return ENOMEM;
	*out = ptr;
	return 0;
}

void free(void *ptr)
{
	if (ptr)
		note(__builtin_return_address(0));
	__libc_free(ptr);
}
#pragma GCC visibility pop
#endif
