/* SPDX-License-Identifier: MIT */
/*
 * The error message of a thread's last failed call, which vcpu_last_error() returns.
 */
#ifndef VCPU_ERROR_H
#define VCPU_ERROR_H

/* Store the message for this thread; returns @rc. */
int vcpu_fail(int rc, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
