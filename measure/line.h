/* SPDX-License-Identifier: MIT */
/*
 * Reads single lines of /proc and /sys files.
 */
#ifndef MEASURE_LINE_H
#define MEASURE_LINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Read the first line that begins with @begins; false when there is none. */
bool measure_read_line(const char *path, const char *begins, char *line, size_t size);

/* Read the number at the beginning of a file such as /proc/sys/vm/max_map_count. */
bool measure_read_number(const char *path, uint64_t *out);

#ifdef __cplusplus
}
#endif

#endif
