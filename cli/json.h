/* SPDX-License-Identifier: MIT */
/*
 * Writing JSON: one object or array after the other, commas put in by themselves.
 */
#ifndef CLI_JSON_H
#define CLI_JSON_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct cli_json {
	FILE *to;
	bool comma; /* something stands before */
};

/* In an array, or at the top, @key is NULL. */
void cli_json_open(struct cli_json *j, const char *key, char bracket);
void cli_json_close(struct cli_json *j, char bracket);
void cli_json_string(struct cli_json *j, const char *key, const char *value);
void cli_json_uint(struct cli_json *j, const char *key, uint64_t value);
/* Three digits after the point for large values, six significant ones for small. */
void cli_json_real(struct cli_json *j, const char *key, double value);
void cli_json_bool(struct cli_json *j, const char *key, bool value);

#endif
