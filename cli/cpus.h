/* SPDX-License-Identifier: MIT */
/*
 * Lists of processors: "0-3,8".
 */
#ifndef CLI_CPUS_H
#define CLI_CPUS_H

#include <stdint.h>

#define CLI_MAX_CPUS 8192u

/* How many processors a list names, in the order given; 0 when it is no list. */
uint32_t cli_cpus_count(const char *list);

/* The processor that the @nth entry of a list names, counted modulo their number. */
uint32_t cli_cpus_nth(const char *list, uint32_t nth);

#endif
