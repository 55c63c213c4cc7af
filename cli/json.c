/* SPDX-License-Identifier: MIT */
/* A JSON writer. */
#include "cli/json.h"

#include <inttypes.h>
#include <math.h>

static void put_string(FILE *to, const char *s)
{
	(void)fputc('"', to);
	for (; *s; s++) {
		unsigned char c = (unsigned char)*s;

		if (c == '"' || c == '\\')
			(void)fprintf(to, "\\%c", c);
		else if (c < 0x20 || c == 0x7f)
			(void)fprintf(to, "\\u%04x", c);
		else
			(void)fputc(c, to);
	}
	(void)fputc('"', to);
}

static void put_key(struct cli_json *j, const char *key)
{
	if (j->comma)
		(void)fputs(", ", j->to);
	j->comma = true;
	if (key) {
		put_string(j->to, key);
		(void)fputs(": ", j->to);
	}
}

void cli_json_open(struct cli_json *j, const char *key, char bracket)
{
	put_key(j, key);
	(void)fputc(bracket, j->to);
	j->comma = false;
}

void cli_json_close(struct cli_json *j, char bracket)
{
	(void)fputc(bracket, j->to);
	j->comma = true;
}

void cli_json_string(struct cli_json *j, const char *key, const char *value)
{
	put_key(j, key);
	put_string(j->to, value);
}

void cli_json_uint(struct cli_json *j, const char *key, uint64_t value)
{
	put_key(j, key);
	(void)fprintf(j->to, "%" PRIu64, value);
}

void cli_json_real(struct cli_json *j, const char *key, double value)
{
	put_key(j, key);
	if (!isfinite(value))
		(void)fputs("null", j->to);
	else
		(void)fprintf(j->to, value >= 1000.0 ? "%.3f" : "%.6g", value);
}

void cli_json_bool(struct cli_json *j, const char *key, bool value)
{
	put_key(j, key);
	(void)fputs(value ? "true" : "false", j->to);
}
