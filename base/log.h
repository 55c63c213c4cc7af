/* SPDX-License-Identifier: MIT */
/*
 * Log messages of an engine, passed to the embedder's callback.  They are formatted in a stack
 * buffer; no lock may be held (I2), because the callback is the embedder's code.
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
 * The rate limit of messages from the data plane: one per second.  Each says how many were
 * suppressed before it.
 */
struct fln_log_limit {
	_Atomic uint64_t next_ns;
	_Atomic uint64_t nr_suppressed;
};

void fln_log_limited(const struct fln_log *log, struct fln_log_limit *limit,
		     enum fln_log_level level, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

#endif
