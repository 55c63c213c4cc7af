/* SPDX-License-Identifier: MIT */
/*
 * A JSON writer, which inserts commas itself.
 */
#ifndef CLI_JSON_H
#define CLI_JSON_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct cli_json {
	FILE *to;
	bool comma; /* the next element needs a comma before it */
};

/* @key is NULL in arrays and at the top level. */
void cli_json_open(struct cli_json *j, const char *key, char bracket);
void cli_json_close(struct cli_json *j, char bracket);
void cli_json_string(struct cli_json *j, const char *key, const char *value);
void cli_json_uint(struct cli_json *j, const char *key, uint64_t value);
/* Three decimals for values from 1000 on, else six significant digits; null if not finite. */
void cli_json_real(struct cli_json *j, const char *key, double value);
void cli_json_bool(struct cli_json *j, const char *key, bool value);

#endif
