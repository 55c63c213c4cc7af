/* SPDX-License-Identifier: MIT */
/*
 * Which options of `faultlane restore` go together.
 */
#ifndef CLI_OPTIONS_CHECK_H
#define CLI_OPTIONS_CHECK_H

#include "cli/options.h"

/* Return: CLI_OK; CLI_USAGE, after an error message. */
int cli_options_check(const struct cli_options *o);

#endif
