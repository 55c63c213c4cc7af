/* SPDX-License-Identifier: MIT */
/*
 * `faultlane doctor --plan`: where workers would run, here or on another machine.
 */
#ifndef CLI_PLAN_H
#define CLI_PLAN_H

#include <stdbool.h>

/* Do the arguments contain --plan? */
bool cli_plan_wanted(int argc, char **argv);

/* Return: enum cli_status. */
int cli_plan(int argc, char **argv);

#endif
