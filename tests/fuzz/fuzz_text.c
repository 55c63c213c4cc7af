/* SPDX-License-Identifier: MIT */
/* Text that people write: lists of processors and numbers. */
#include "base/error.h"
#include "cli/cli.h"
#include "cli/number.h"
#include "numa/cpuset.h"
#include "tests/fuzz/fuzz.h"

#include <faultlane/base.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A list that is understood is written as one that means the same. */
static void play_cpuset(const char *text)
{
	struct fln_cpuset set, again;
	static char line[65536];
	char small[32];

	if (fln_cpuset_parse(&set, text, "list") != 0) {
		FLN_ASSERT(strlen(fln_last_error()) > 0);
		return;
	}
	(void)fln_cpuset_format(&set, small, sizeof(small));
	FLN_ASSERT(strlen(small) < sizeof(small));
	(void)fln_cpuset_format(&set, line, sizeof(line));
	FLN_ASSERT(fln_cpuset_parse(&again, line, "list") == 0);
	FLN_ASSERT(memcmp(&set, &again, sizeof(set)) == 0);
}

/* A number that is understood is within its bounds, and printed as it was but for zeros. */
static void play_number(const char *text)
{
	char line[32];
	uint64_t n;

	if (cli_parse_u64("option", text, 1, UINT64_MAX - 1, &n) != CLI_OK)
		return;
	FLN_ASSERT(n >= 1 && n < UINT64_MAX);
	(void)snprintf(line, sizeof(line), "%llu", (unsigned long long)n);
	FLN_ASSERT(strcmp(line, text + strspn(text, "0")) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);

	if (!text)
		abort();
	if (size > 0)
		memcpy(text, data, size);
	text[size] = '\0';
	if (size > 0 && text[0] == 'n')
		play_number(text + 1);
	else
		play_cpuset(text);
	free(text);
	return 0;
}
