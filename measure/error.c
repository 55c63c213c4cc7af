/* SPDX-License-Identifier: MIT */
/* What goes wrong, said to people. */
#include "measure/error.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>

static char last_error[512];
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

void measure_error(const char *fmt, ...)
{
	va_list ap;

	(void)pthread_mutex_lock(&mutex);
	va_start(ap, fmt);
	(void)vsnprintf(last_error, sizeof(last_error), fmt, ap);
	va_end(ap);
	(void)fprintf(stderr, "%s: %s\n", program_invocation_short_name, last_error);
	(void)pthread_mutex_unlock(&mutex);
}

const char *measure_last_error(void)
{
	return last_error;
}
