/* SPDX-License-Identifier: MIT */
/*
 * The sentence of a thread's last call that failed; vcpu_last_error() gives it out.
 */
#ifndef VCPU_ERROR_H
#define VCPU_ERROR_H

/* Remembers the sentence, returns @rc. */
int vcpu_fail(int rc, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
