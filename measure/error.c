/* SPDX-License-Identifier: MIT */
/* Error messages of programs. */
#include "measure/error.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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

static void check_output(void)
{
	errno = 0;
	if (fflush(stdout) == 0 && !ferror(stdout))
		return;
	/* If an earlier write failed, its errno is lost. */
	measure_error("cannot write to standard output%s%s", errno ? ": " : "",
		      errno ? strerror(errno) : "");
	_exit(1);
}

void measure_guard_output(void)
{
	(void)atexit(check_output);
}
