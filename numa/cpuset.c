/* SPDX-License-Identifier: MIT */
/* Parses and formats lists of processors. */
#include "numa/cpuset.h"

#include "base/error.h"

#include <errno.h>
#include <string.h>

/* Parse a number and advance *at; false when there is none or it is FLN_MAX_PUS or above. */
static bool parse_number(const char **at, uint32_t *out)
{
	uint32_t n = 0;

	if (**at < '0' || **at > '9')
		return false;
	for (; **at >= '0' && **at <= '9'; (*at)++) {
		n = n * 10 + (uint32_t)(**at - '0');
		if (n >= FLN_MAX_PUS)
			return false;
	}
	*out = n;
	return true;
}

int fln_cpuset_parse(struct fln_cpuset *set, const char *list, const char *what)
{
	struct fln_cpuset s = { .w = { 0 } };
	const char *at = list;

	for (;;) {
		uint32_t lo, hi;

		if (!parse_number(&at, &lo))
			break;
		hi = lo;
		if (*at == '-') {
			at++;
			if (!parse_number(&at, &hi) || hi < lo)
				break;
		}
		for (uint32_t i = lo; i <= hi; i++)
			fln_cpuset_add(&s, i);
		if (*at == '\0') {
			*set = s;
			return 0;
		}
		if (*at++ != ',')
			break;
	}
	return fln_fail(EINVAL,
			"%s is '%.100s', which is not a list of processors; write it as "
			"'0-3,8', with numbers up to %u",
			what, list, FLN_MAX_PUS - 1);
}

const char *fln_cpuset_format(const struct fln_cpuset *set, char *buf, size_t buf_len)
{
	size_t len = 0;

	(void)snprintf(buf, buf_len, "-");
	for (uint32_t lo = 0, hi; lo < FLN_MAX_PUS; lo = hi + 1) {
		char piece[32];
		int n;

		hi = lo;
		if (!fln_cpuset_has(set, lo))
			continue;
		while (fln_cpuset_has(set, hi + 1))
			hi++;
		n = hi > lo ? snprintf(piece, sizeof(piece), "%s%u-%u", len ? "," : "", lo, hi)
			    : snprintf(piece, sizeof(piece), "%s%u", len ? "," : "", lo);
		if (len + (size_t)n + sizeof("...") > buf_len) {
			(void)snprintf(buf + len, buf_len - len, "...");
			break;
		}
		memcpy(buf + len, piece, (size_t)n + 1);
		len += (size_t)n;
	}
	return buf;
}
