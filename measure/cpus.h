/* SPDX-License-Identifier: MIT */
/*
 * Lists of processors, such as "0-3,8".
 */
#ifndef MEASURE_CPUS_H
#define MEASURE_CPUS_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define MEASURE_MAX_CPUS 8192u

/* The number of entries of a list; 0 when it does not parse. */
uint32_t measure_cpus_count(const char *list);

/* The processor of entry @nth (modulo the number of entries) of a valid list. */
uint32_t measure_cpus_nth(const char *list, uint32_t nth);

#ifdef __cplusplus
}
#endif

#endif
