/* SPDX-License-Identifier: MIT */
/*
 * Error messages of programs.
 */
#ifndef MEASURE_ERROR_H
#define MEASURE_ERROR_H

#ifdef __cplusplus
extern "C" {
#endif

/* Print one line to stderr, prefixed by the program's name.  Threads: any. */
void measure_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* The last message that was printed, for callers that also report it elsewhere; "": none. */
const char *measure_last_error(void);

/*
 * From now on, if output to stdout could not be written, exit() prints an error and the exit
 * status is 1.  Has no effect when the process ends by a signal or _exit().
 */
void measure_guard_output(void);

#ifdef __cplusplus
}
#endif

#endif
