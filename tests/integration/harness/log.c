/* SPDX-License-Identifier: MIT */
/* What the library said. */
#include "tests/integration/harness/log.h"

#include "tests/integration/harness/verdict.h"
#include "tests/support/names.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void test_log_fn(void *ctx, enum fln_log_level level, const char *msg)
{
	struct test_log *log = ctx;

	if (getenv("FAULTLANE_TEST_VERBOSE"))
		(void)fprintf(stderr, "log %d: %s\n", (int)level, msg);
	(void)pthread_mutex_lock(&log->lock);
	(void)snprintf(log->lines[log->nr % 64], sizeof(log->lines[0]), "%s", msg);
	log->levels[log->nr % 64] = level;
	log->nr++;
	(void)pthread_mutex_unlock(&log->lock);
}

uint32_t log_nr(struct test_log *log)
{
	uint32_t nr;

	(void)pthread_mutex_lock(&log->lock);
	nr = log->nr;
	(void)pthread_mutex_unlock(&log->lock);
	return nr;
}

bool log_names(struct test_log *log, enum fln_log_level level, const char *names)
{
	bool does = false;

	(void)pthread_mutex_lock(&log->lock);
	for (uint32_t i = 0; i < log->nr && i < 64; i++)
		does |= log->levels[i] == level && names_all(log->lines[i], names);
	(void)pthread_mutex_unlock(&log->lock);
	return does;
}

void wait_log(struct test_log *log, enum fln_log_level level, const char *names)
{
	for (uint64_t t0 = now_ns(); !log_names(log, level, names); sleep_ms(1))
		CHECK(now_ns() - t0 < WAIT_S * 1000 * MS, "no line of level %d names \"%s\"",
		      (int)level, names ? names : "");
}
