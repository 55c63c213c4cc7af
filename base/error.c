/* SPDX-License-Identifier: MIT */
/* Error messages, assertions, and copying of structs that can grow between versions. */
#include "base/error.h"

#include "base/tls.h"

#include <errno.h>
#include <faultlane/base.h>
#include <faultlane/version.h>
#include <stdbool.h>
#include <string.h>

static FLN_THREAD_LOCAL char last_error[256];

int fln_fail(int err, const char *fmt, ...)
{
	va_list ap;

	FLN_DEBUG_ASSERT(err > 0);
	va_start(ap, fmt);
	(void)vsnprintf(last_error, sizeof(last_error), fmt, ap);
	va_end(ap);
	return -err;
}

const char *fln_last_error(void)
{
	return last_error;
}

const char *fln_version(void)
{
	return FLN_VERSION_STRING;
}

void fln_assert_failed(const char *expr, const char *file, int line)
{
	(void)fprintf(stderr, "faultlane: %s:%d: assertion failed: %s\n", file, line, expr);
	abort();
}

int fln_opts_copy(void *dst, size_t dst_size, const void *src, const char *what)
{
	size_t src_size;

	memset(dst, 0, dst_size);
	if (!src) {
		memcpy(dst, &dst_size, sizeof(dst_size));
		return 0;
	}
	memcpy(&src_size, src, sizeof(src_size));
	if (src_size < sizeof(size_t) || src_size > 4096)
		return fln_fail(EINVAL, "%s: size is %zu; start from its _INIT macro", what,
				src_size);
	for (size_t i = dst_size; i < src_size; i++) {
		if (((const unsigned char *)src)[i] != 0)
			return fln_fail(
				E2BIG,
				"%s: byte %zu is set, and this library (%s) knows %zu bytes; "
				"use a newer library or leave the option out",
				what, i, FLN_VERSION_STRING, dst_size);
	}
	memcpy(dst, src, src_size < dst_size ? src_size : dst_size);
	memcpy(dst, &dst_size, sizeof(dst_size));
	return 0;
}

int fln_out_check(const void *out, const char *what)
{
	size_t size;

	memcpy(&size, out, sizeof(size));
	if (size >= sizeof(size) && size <= 65536)
		return 0;
	return fln_fail(EINVAL, "%s: size is %zu; start from its _INIT macro", what, size);
}

int fln_out_copy(void *out, const void *full, size_t full_size, const char *what)
{
	size_t size;

	if (fln_out_check(out, what) != 0)
		return -EINVAL;
	memcpy(&size, out, sizeof(size));
	if (size > full_size)
		memset((char *)out + full_size, 0, size - full_size);
	memcpy(out, full, size < full_size ? size : full_size);
	memcpy(out, &size, sizeof(size));
	return 0;
}
