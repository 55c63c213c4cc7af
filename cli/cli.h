/* SPDX-License-Identifier: MIT */
/*
 * The subcommands and their exit statuses.
 */
#ifndef CLI_CLI_H
#define CLI_CLI_H

enum cli_status {
	CLI_OK = 0,
	CLI_FAILED = 1, /* the operation or the verification failed */
	CLI_USAGE = 2,  /* invalid command line */
};

int cli_restore(int argc, char **argv);
int cli_doctor(int argc, char **argv);

#endif
