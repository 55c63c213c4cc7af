/* SPDX-License-Identifier: MIT */
/* Formats and rate-limits log messages for the embedder's callback. */
#include "base/log.h"

#include "base/clock.h"
#include "base/lock.h"

#include <stdarg.h>
#include <stdio.h>

#define LOG_LINE_BYTES 512

__attribute__((format(printf, 4, 0))) static void log_line(const struct fln_log *log,
							   enum fln_log_level level,
							   uint64_t nr_suppressed, const char *fmt,
							   va_list ap)
{
	char line[LOG_LINE_BYTES];
	int n;

	fln_lock_assert_none(); /* I2: the callback is the embedder's code */
	n = vsnprintf(line, sizeof(line), fmt, ap);
	if (nr_suppressed && n > 0 && (size_t)n < sizeof(line))
		(void)snprintf(line + n, sizeof(line) - (size_t)n, " (%llu similar suppressed)",
			       (unsigned long long)nr_suppressed);
	log->fn(log->ctx, level, line);
}

void fln_log(const struct fln_log *log, enum fln_log_level level, const char *fmt, ...)
{
	va_list ap;

	if (!log->fn)
		return;
	va_start(ap, fmt);
	log_line(log, level, 0, fmt, ap);
	va_end(ap);
}

void fln_log_limited(const struct fln_log *log, struct fln_log_limit *limit,
		     enum fln_log_level level, const char *fmt, ...)
{
	uint64_t now = fln_now_ns();
	uint64_t next = atomic_load_explicit(&limit->next_ns, memory_order_relaxed);
	va_list ap;

	if (!log->fn)
		return;
	if (now < next ||
	    !atomic_compare_exchange_strong(&limit->next_ns, &next, now + FLN_NS_PER_S)) {
		atomic_fetch_add_explicit(&limit->nr_suppressed, 1, memory_order_relaxed);
		return;
	}
	va_start(ap, fmt);
	log_line(log, level, atomic_exchange(&limit->nr_suppressed, 0), fmt, ap);
	va_end(ap);
}
