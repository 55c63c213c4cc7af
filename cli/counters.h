/* SPDX-License-Identifier: MIT */
/*
 * The counters of the memory under test.
 */
#ifndef CLI_COUNTERS_H
#define CLI_COUNTERS_H

#include "cli/memory.h"

#include <faultlane/stats.h>
#include <stdbool.h>
#include <stdint.h>

/* Counters of the design; 0 where a design has none. */
struct cli_counters {
	struct fln_stats stats;
	uint32_t window_first;
	uint32_t window_max;
	uint32_t nr_shards;
	uint32_t nr_workers;
	uint64_t filled_bytes;
	uint64_t memory_bytes; /* page cache of the image */
	uint64_t large_blocks; /* of it, 2 MiB each in one folio */
};

/* Read the counters.  False: an error was printed. */
bool cli_counters_read(struct cli_memory *m, struct cli_counters *out);

/*
 * How much memory guests with --sharing private have copied; reads all of their page tables.
 * False: an error was printed.
 */
bool cli_counters_copied(const struct cli_memory *m, uint64_t *bytes);

#endif
