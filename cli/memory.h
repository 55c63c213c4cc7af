/* SPDX-License-Identifier: MIT */
/*
 * The memory under test: one interface to all designs.
 */
#ifndef CLI_MEMORY_H
#define CLI_MEMORY_H

#include "cli/input.h"
#include "cli/options.h"

#include <faultlane/stats.h>
#include <stdbool.h>
#include <stdint.h>

struct cli_memory;

/* Counters of the design; 0 where a design has none. */
struct cli_counters {
	struct fln_stats stats;
	uint32_t window_first;
	uint32_t window_max;
	uint32_t nr_shards;
	uint32_t nr_workers;
};

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

/* Read the counters.  False: an error was printed. */
bool cli_memory_counters(struct cli_memory *m, struct cli_counters *out);

#endif
