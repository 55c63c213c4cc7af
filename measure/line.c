/* SPDX-License-Identifier: MIT */
/* Reads single lines of files. */
#include "measure/line.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool measure_read_line(const char *path, const char *begins, char *line, size_t size)
{
	FILE *f = fopen(path, "re");
	bool got = false;

	if (!f)
		return false;
	while (!got && fgets(line, (int)size, f))
		got = strncmp(line, begins, strlen(begins)) == 0;
	(void)fclose(f);
	return got;
}

bool measure_read_number(const char *path, uint64_t *out)
{
	char line[64];
	char *end;

	if (!measure_read_line(path, "", line, sizeof(line)))
		return false;
	*out = strtoull(line, &end, 10);
	return end != line;
}
