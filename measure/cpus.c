/* SPDX-License-Identifier: MIT */
/* Parses lists of processors. */
#include "measure/cpus.h"

#include <stdbool.h>
#include <stdlib.h>

/* Parse "4" or "0-3" and a comma that follows it, and advance *at; false when invalid. */
static bool parse_range(const char **at, uint32_t *lo, uint32_t *hi)
{
	char *end;
	unsigned long n;

	if (**at < '0' || **at > '9')
		return false;
	n = strtoul(*at, &end, 10);
	if (n >= MEASURE_MAX_CPUS)
		return false;
	*lo = *hi = (uint32_t)n;
	if (*end == '-') {
		if (end[1] < '0' || end[1] > '9')
			return false;
		n = strtoul(end + 1, &end, 10);
		if (n >= MEASURE_MAX_CPUS || n < *lo)
			return false;
		*hi = (uint32_t)n;
	}
	if (*end == ',' && end[1] != '\0')
		end++;
	else if (*end != '\0')
		return false;
	*at = end;
	return true;
}

uint32_t measure_cpus_count(const char *list)
{
	uint32_t lo, hi, nr = 0;

	do {
		if (!parse_range(&list, &lo, &hi))
			return 0;
		nr += hi - lo + 1;
	} while (*list && nr < MEASURE_MAX_CPUS);
	return nr;
}

uint32_t measure_cpus_nth(const char *list, uint32_t nth)
{
	const char *at = list;
	uint32_t lo = 0, hi;

	nth %= measure_cpus_count(list);
	while (parse_range(&at, &lo, &hi) && nth > hi - lo)
		nth -= hi - lo + 1;
	return lo + nth;
}
