/* SPDX-License-Identifier: MIT */
/*
 * Numbers on command lines: whole, decimal, within bounds.
 */
#ifndef CLI_NUMBER_H
#define CLI_NUMBER_H

#include <stdint.h>

/* Return: enum cli_status; what is wrong with @value has been said on stderr. */
int cli_parse_u64(const char *option, const char *value, uint64_t min, uint64_t max, uint64_t *out);
int cli_parse_u32(const char *option, const char *value, uint32_t min, uint32_t max, uint32_t *out);

#endif
