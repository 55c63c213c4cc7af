/* SPDX-License-Identifier: MIT */
/*
 * Lists of processors: "0-3,8".
 */
#ifndef MEASURE_CPUS_H
#define MEASURE_CPUS_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define MEASURE_MAX_CPUS 8192u

/* How many processors a list names, in the order given; 0 when it is no list. */
uint32_t measure_cpus_count(const char *list);

/* The processor that the @nth entry of a list names, counted modulo their number. */
uint32_t measure_cpus_nth(const char *list, uint32_t nth);

#ifdef __cplusplus
}
#endif

#endif
