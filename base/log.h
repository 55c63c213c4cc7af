/* SPDX-License-Identifier: MIT */
/*
 * The log hook of an engine: formatted in a stack buffer, never under a lock.
 */
#ifndef FLN_BASE_LOG_H
#define FLN_BASE_LOG_H

#include <faultlane/base.h>
#include <stdatomic.h>

struct fln_log {
	fln_log_fn fn;
	void *ctx;
};

void fln_log(const struct fln_log *log, enum fln_log_level level, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/*
 * Lets a message through at most once per second, for the data plane; tells how
 * many were held back before this one.
 */
struct fln_log_limit {
	_Atomic uint64_t next_ns;
	_Atomic uint64_t nr_held_back;
};

void fln_log_limited(const struct fln_log *log, struct fln_log_limit *limit,
		     enum fln_log_level level, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

#endif
