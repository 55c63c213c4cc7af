/* SPDX-License-Identifier: MIT */
/*
 * One line on stderr, with the program's name before it.
 */
#ifndef MEASURE_ERROR_H
#define MEASURE_ERROR_H

#ifdef __cplusplus
extern "C" {
#endif

void measure_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* The last sentence of this process, for callers that report it elsewhere too; "" when there is none. */
const char *measure_last_error(void);

/*
 * From here on the process ends with status 1 and a sentence where something that was written
 * to standard output has not arrived, whichever way it ends (but by a signal or _exit()).
 */
void measure_guard_output(void);

#ifdef __cplusplus
}
#endif

#endif
