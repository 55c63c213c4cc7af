/* SPDX-License-Identifier: MIT */
/*
 * What the memory under test consists of, for memory.c and counters.c.
 */
#ifndef CLI_MEMORY_STATE_H
#define CLI_MEMORY_STATE_H

#include "cli/input.h"
#include "cli/options.h"

#include "baselines/handler.h"
#include "baselines/shmem.h"

#include <faultlane/faultlane.h>
#include <stdbool.h>

struct cli_memory {
	struct cli_options o;
	const struct cli_input *in;
	char **addrs;
	double fill_seconds;
	/* kernel, single, single_window */
	struct fln_shmem shmem;
	struct fln_handler *handler;
	/* engine */
	struct fln_engine *engine;
	struct fln_source *source;
	struct fln_image *image;
	struct fln_guest **guests;
};

/* Report the library's own error message.  Always returns false. */
bool cli_memory_failed(const char *what, int rc);

#endif
