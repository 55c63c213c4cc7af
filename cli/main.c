/* SPDX-License-Identifier: MIT */
/* The faultlane command: dispatches to the subcommands. */
#include "cli/cli.h"
#include "measure/error.h"

#include <faultlane/faultlane.h>
#include <stdio.h>
#include <string.h>

struct command {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *summary;
};

static const struct command commands[] = {
	{ "restore", cli_restore,
	  "restore a memory image lazily under touching threads, verified" },
	{ "doctor", cli_doctor, "report what works on this machine, with remedies for the rest" },
};

#define NR_COMMANDS (sizeof(commands) / sizeof(commands[0]))

static void print_help(FILE *to)
{
	(void)fputs(
		"faultlane serves the page faults of very large virtual machines from user space\n"
		"\n"
		"usage: faultlane COMMAND [OPTIONS]\n"
		"       faultlane COMMAND --help\n"
		"       faultlane --version\n"
		"\n",
		to);
	for (size_t i = 0; i < NR_COMMANDS; i++)
		(void)fprintf(to, "  %-8s  %s\n", commands[i].name, commands[i].summary);
}

int main(int argc, char **argv)
{
	measure_guard_output();
	if (argc < 2) {
		print_help(stderr);
		return CLI_USAGE;
	}
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
		print_help(stdout);
		return CLI_OK;
	}
	if (strcmp(argv[1], "--version") == 0) {
		(void)printf("faultlane %s\n", fln_version());
		return CLI_OK;
	}
	for (size_t i = 0; i < NR_COMMANDS; i++)
		if (strcmp(argv[1], commands[i].name) == 0)
			return commands[i].run(argc - 1, argv + 1);
	measure_error("unknown command '%s'; 'faultlane --help' lists the commands", argv[1]);
	return CLI_USAGE;
}
