/* SPDX-License-Identifier: MIT */
/* Parses numbers of the command line. */
#include "cli/number.h"

#include "cli/cli.h"
#include "measure/error.h"

#include <errno.h>
#include <stdlib.h>

static int bad_number(const char *option, const char *value, uint64_t min, uint64_t max)
{
	measure_error("--%s '%s': give a whole number from %llu to %llu", option, value,
		      (unsigned long long)min, (unsigned long long)max);
	return CLI_USAGE;
}

int cli_parse_u64(const char *option, const char *value, uint64_t min, uint64_t max, uint64_t *out)
{
	char *end;
	unsigned long long n;

	if (value[0] < '0' || value[0] > '9')
		return bad_number(option, value, min, max);
	errno = 0;
	n = strtoull(value, &end, 10);
	if (errno || *end != '\0' || n < min || n > max)
		return bad_number(option, value, min, max);
	*out = n;
	return CLI_OK;
}

int cli_parse_u32(const char *option, const char *value, uint32_t min, uint32_t max, uint32_t *out)
{
	uint64_t n;
	int rc = cli_parse_u64(option, value, min, max, &n);

	if (rc == CLI_OK)
		*out = (uint32_t)n;
	return rc;
}
