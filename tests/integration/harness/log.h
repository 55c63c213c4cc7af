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
};

void test_log_fn(void *ctx, enum fln_log_level level, const char *msg);
uint32_t log_nr(struct test_log *log); /* lines so far */
bool log_has(struct test_log *log, const char *word);
void wait_log(struct test_log *log, const char *word); /* until it does, up to WAIT_S */

#endif
