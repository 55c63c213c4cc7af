/* SPDX-License-Identifier: MIT */
/*
 * What the subcommands share: exit statuses.
 */
#ifndef CLI_CLI_H
#define CLI_CLI_H

enum cli_status {
	CLI_OK = 0,
	CLI_FAILED = 1, /* it was tried, and it did not work or did not verify */
	CLI_USAGE = 2,  /* the command line made no sense */
};

int cli_restore(int argc, char **argv);
int cli_doctor(int argc, char **argv);

#endif
