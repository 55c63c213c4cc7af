/* SPDX-License-Identifier: MIT */
/*
 * Errors: the code goes to the caller, the sentence to fln_last_error().
 */
#ifndef FLN_BASE_ERROR_H
#define FLN_BASE_ERROR_H

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

/*
 * Remember a sentence for this thread's fln_last_error() and return -err.
 * The sentence names the value that was refused and the remedy.  @err is positive.
 */
int fln_fail(int err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* The text of an errno: GNU's strerror_r() returns it, POSIX's has written it to the buffer. */
static inline const char *fln_strerror_gnu(const char *text, const char *buf)
{
	(void)buf;
	return text;
}

static inline const char *fln_strerror_posix(int rc, const char *buf)
{
	return rc == 0 ? buf : "an error without a text";
}

/* @buf is an array. */
#define fln_strerror(err, buf) \
	_Generic(strerror_r((err), (buf), sizeof(buf)),                                \
		char *: fln_strerror_gnu,                                              \
		int: fln_strerror_posix)(strerror_r((err), (buf), sizeof(buf)), (buf))

/* Our own logic only: never the kernel's or the caller's answers. */
_Noreturn void fln_assert_failed(const char *expr, const char *file, int line);

#define FLN_ASSERT(expr) ((expr) ? (void)0 : fln_assert_failed(#expr, __FILE__, __LINE__))

#ifdef FLN_DEBUG
#define FLN_DEBUG_ASSERT(expr) FLN_ASSERT(expr)
#else
#define FLN_DEBUG_ASSERT(expr) ((void)sizeof(expr))
#endif

/* Descriptors, mappings or memory have run out, and may be there again in a while? */
static inline bool fln_is_for_now(int rc)
{
	return rc == -EMFILE || rc == -ENFILE || rc == -ENOMEM || rc == -EAGAIN;
}

/*
 * Bring an options struct of the caller's version into ours: @dst of @dst_size
 * bytes, zeros where @src is shorter.  -E2BIG when @src is longer and its tail
 * is not zero, -EINVAL when its size field makes no sense.  @what names the
 * struct in the sentence.  A NULL @src gives all zeros.
 */
int fln_opts_copy(void *dst, size_t dst_size, const void *src, const char *what);

/*
 * Results into a struct of the caller's version, whose size is its first field: @out may be
 * an older, shorter one, or a newer, longer one, whose rest becomes zero.
 * Return: 0; -EINVAL when its size makes no sense, which fln_out_check() finds beforehand.
 */
int fln_out_copy(void *out, const void *full, size_t full_size, const char *what);
int fln_out_check(const void *out, const char *what);

#endif
