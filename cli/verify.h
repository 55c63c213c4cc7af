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

/*
 * Compare every touched page, whole, through the mapping at @addr: with the file,
 * or (@written) with the toucher's token and the rest of the file's page.
 * False: it could not be done, and it has said why.
 */
bool cli_verify(const struct cli_plan *plan, const struct cli_input *in, const char *addr,
		bool written, struct cli_verify_result *out);

#endif
