/* SPDX-License-Identifier: MIT */
/* The error message of a thread's last failed call. */
#include "vcpu/error.h"

#include "vcpu/vcpu.h"

#include <stdarg.h>
#include <stdio.h>

static _Thread_local char last_error[256];

int vcpu_fail(int rc, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	(void)vsnprintf(last_error, sizeof(last_error), format, args);
	va_end(args);
	return rc;
}

const char *vcpu_last_error(void)
{
	return last_error;
}
