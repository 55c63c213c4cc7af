/* SPDX-License-Identifier: MIT */
/* What the library said. */
#ifndef FLN_TESTS_HARNESS_LOG_H
#define FLN_TESTS_HARNESS_LOG_H

#include <faultlane/base.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

/* The last lines. */
struct test_log {
	pthread_mutex_t lock;
	uint32_t nr;
	char lines[64][256];
	enum fln_log_level levels[64];
};

void test_log_fn(void *ctx, enum fln_log_level level, const char *msg);
uint32_t log_nr(struct test_log *log); /* lines so far */
/* Is there a line of the level that names all of @names, as for REFUSED()?  NULL: is there any? */
bool log_names(struct test_log *log, enum fln_log_level level, const char *names);
/* Until there is, up to WAIT_S. */
void wait_log(struct test_log *log, enum fln_log_level level, const char *names);

#endif
