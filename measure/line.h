/* SPDX-License-Identifier: MIT */
/*
 * Files of /proc and /sys that have what is asked for in one line.
 */
#ifndef MEASURE_LINE_H
#define MEASURE_LINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The first line of a file that begins so; false when there is none. */
bool measure_read_line(const char *path, const char *begins, char *line, size_t size);

/* The number in a file that begins with one, such as /proc/sys/vm/max_map_count. */
bool measure_read_number(const char *path, uint64_t *out);

#ifdef __cplusplus
}
#endif

#endif
