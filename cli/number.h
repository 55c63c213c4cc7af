/* SPDX-License-Identifier: MIT */
/*
 * Parses whole decimal numbers of the command line, with bounds.
 */
#ifndef CLI_NUMBER_H
#define CLI_NUMBER_H

#include <stdint.h>

/* Return: CLI_OK; CLI_USAGE, after an error message that names @option. */
int cli_parse_u64(const char *option, const char *value, uint64_t min, uint64_t max, uint64_t *out);
int cli_parse_u32(const char *option, const char *value, uint32_t min, uint32_t max, uint32_t *out);

#endif
