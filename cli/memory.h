/* SPDX-License-Identifier: MIT */
/*
 * The memory under test: made, filled and served by one of the designs.
 */
#ifndef CLI_MEMORY_H
#define CLI_MEMORY_H

#include "cli/input.h"
#include "cli/options.h"

#include <faultlane/stats.h>
#include <stdbool.h>
#include <stdint.h>

struct cli_memory;

/* What the design did; zero where it has no such thing. */
struct cli_counters {
	struct fln_stats stats;
	uint32_t window_first;
	uint32_t window_max;
	uint32_t nr_shards;
	uint32_t nr_workers;
};

/*
 * Make the memory, fill it (unless it is filled while it is touched) and start
 * what serves it.  NULL: it has said why not.
 */
struct cli_memory *cli_memory_create(const struct cli_options *o, const struct cli_input *in);
void cli_memory_destroy(struct cli_memory *m);

/* One address for each of --guests. */
char *const *cli_memory_addrs(const struct cli_memory *m);
/* What --sharing private must leave alone; -1 where there is no image. */
int cli_memory_image(const struct cli_memory *m);
double cli_memory_fill_seconds(const struct cli_memory *m);

bool cli_memory_counters(struct cli_memory *m, struct cli_counters *out);

#endif
