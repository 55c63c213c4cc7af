/* SPDX-License-Identifier: MIT */
/*
 * What the subcommands share: exit statuses and messages.
 */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include <stdbool.h>

enum cli_status {
	CLI_OK = 0,
	CLI_FAILED = 1, /* it was tried, and it did not work or did not verify */
	CLI_USAGE = 2,  /* the command line made no sense */
};

/* One line on stderr, with the program's name before it. */
void cli_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

int cli_restore(int argc, char **argv);
int cli_doctor(int argc, char **argv);

#endif
