/* SPDX-License-Identifier: MIT */
/*
 * The source of the image: contents out of numbers, and all that sources get wrong.
 */
#ifndef STRESS_SOURCE_H
#define STRESS_SOURCE_H

#include "stress/options.h"

#include <faultlane/faultlane.h>
#include <stdatomic.h>

struct stress_source {
	const struct options *opts;
	struct fln_source *handle;
	uint64_t dead_page; /* with source-errors: fails for ever; else UINT64_MAX */
	_Atomic uint64_t nr_reads;
	_Atomic uint64_t nr_errors, nr_short, nr_slow;
	_Atomic bool healthy; /* no more faults of ours: the end is near */
};

/* Return: 0 or a negative errno. */
int stress_source_init(struct stress_source *s, const struct options *opts);
void stress_source_deinit(struct stress_source *s);

#endif
