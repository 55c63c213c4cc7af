/* SPDX-License-Identifier: MIT */
/*
 * Comparing what threads touched with what the file says.
 */
#ifndef CLI_VERIFY_H
#define CLI_VERIFY_H

#include "cli/input.h"
#include "cli/order.h"

#include <stdbool.h>
#include <stdint.h>

struct cli_verify_result {
	uint64_t nr_verified;
	uint64_t nr_wrong;
	uint64_t first_wrong_page; /* when nr_wrong is not 0 */
};

/* What is compared with the file. */
struct cli_verify_opts {
	const struct cli_plan *plan;
	const struct cli_input *in;
	const char *addr;      /* the mapping */
	int fd;                /* or, with NULL there, an image */
	bool written;          /* touched pages begin with their toucher's token */
	uint32_t first_thread; /* who touched them is counted from here */
	bool whole;            /* pages that nobody touched, too */
};

/*
 * Compare every touched page, whole: with the file, or with the toucher's token
 * and the rest of the file's page.  Adds to @out, in which all is 0 to begin with.
 * False: it could not be done, and it has said why.
 */
bool cli_verify(const struct cli_verify_opts *opts, struct cli_verify_result *out);

#endif
