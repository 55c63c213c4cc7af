/* SPDX-License-Identifier: MIT */
/*
 * The memory under test: one interface to all designs.
 */
#ifndef CLI_MEMORY_H
#define CLI_MEMORY_H

#include "cli/input.h"
#include "cli/options.h"

#include <stdint.h>

struct cli_memory;

/*
 * Create the memory, fill it (with --source memory) and start the threads that handle
 * its faults.  NULL: an error was printed.
 */
struct cli_memory *cli_memory_create(const struct cli_options *o, const struct cli_input *in);
void cli_memory_destroy(struct cli_memory *m);

/* The addresses of the guests' memory, one for each of --guests. */
char *const *cli_memory_addrs(const struct cli_memory *m);
/* The memfd of the image, which --sharing private must not modify; -1: no image. */
int cli_memory_image(const struct cli_memory *m);
double cli_memory_fill_seconds(const struct cli_memory *m);

#endif
