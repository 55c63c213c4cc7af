/* SPDX-License-Identifier: MIT */
/*
 * Errors: the code is returned to the caller, the message is kept for fln_last_error().
 */
#ifndef FLN_BASE_ERROR_H
#define FLN_BASE_ERROR_H

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

/*
 * Store a message for this thread's fln_last_error() and return -err.  The message
 * names the refused value and the remedy.  @err is positive.
 */
int fln_fail(int err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* The text of an errno: GNU's strerror_r() returns it, POSIX's writes it to the buffer. */
static inline const char *fln_strerror_gnu(const char *text, const char *buf)
{
	(void)buf;
	return text;
}

static inline const char *fln_strerror_posix(int rc, const char *buf)
{
	return rc == 0 ? buf : "unknown error";
}

/* The thread-safe strerror().  @buf must be an array, not a pointer. */
#define fln_strerror(err, buf) \
	_Generic(strerror_r((err), (buf), sizeof(buf)),                                \
		char *: fln_strerror_gnu,                                              \
		int: fln_strerror_posix)(strerror_r((err), (buf), sizeof(buf)), (buf))

/* Assert the library's own logic only, never what the kernel or the caller returned. */
_Noreturn void fln_assert_failed(const char *expr, const char *file, int line);

#define FLN_ASSERT(expr) ((expr) ? (void)0 : fln_assert_failed(#expr, __FILE__, __LINE__))

#ifdef FLN_DEBUG
#define FLN_DEBUG_ASSERT(expr) FLN_ASSERT(expr)
#else
#define FLN_DEBUG_ASSERT(expr) ((void)sizeof(expr))
#endif

/* Is the error a temporary shortage, of descriptors, mappings or memory? */
static inline bool fln_is_for_now(int rc)
{
	return rc == -EMFILE || rc == -ENFILE || rc == -ENOMEM || rc == -EAGAIN;
}

/*
 * Copy an options struct of the caller's version to @dst, which has @dst_size bytes.
 * Fields that a shorter @src lacks become zero, as do all fields when @src is NULL.
 * @what names the struct in messages.
 * Return: 0; -E2BIG when @src is longer and its tail is not zero; -EINVAL when its size field
 * is invalid.
 */
int fln_opts_copy(void *dst, size_t dst_size, const void *src, const char *what);

/*
 * Copy the results @full to @out, a struct of the caller's version whose first field is its
 * size.  A shorter @out (older caller) receives the fields it has; the tail of a longer one
 * becomes zero.  Return: 0; -EINVAL when the size field is invalid.  fln_out_check() makes
 * only that check, for calls that must fail before they act.
 */
int fln_out_copy(void *out, const void *full, size_t full_size, const char *what);
int fln_out_check(const void *out, const char *what);

#endif
