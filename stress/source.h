/* SPDX-License-Identifier: MIT */
/*
 * The source of the image: contents out of numbers, and all that sources get wrong.
 */
#ifndef STRESS_SOURCE_H
#define STRESS_SOURCE_H

#include "stress/options.h"

#include <faultlane/faultlane.h>
#include <stdatomic.h>

struct layout_image;

struct stress_source {
	const struct options *opts;
	uint64_t dead_page; /* with source-errors: fails for ever; else UINT64_MAX */
	_Atomic uint64_t nr_reads;
	_Atomic uint64_t nr_errors, nr_short, nr_slow;
	/* Pages of which every read that succeeds is counted. */
	_Atomic uint64_t watched_first, watched_nr, nr_watched;
	_Atomic bool dragging; /* no read comes back */
	_Atomic bool healthy;  /* no more faults of ours: the end is near */
};

void stress_source_init(struct stress_source *s, const struct options *opts);
/* A source for an image: im->source.  Return: 0 or a negative errno. */
int source_of_image(struct layout_image *im);
/* Count from now on the reads of these pages that succeed. */
void source_watch(struct stress_source *s, uint64_t first_page, uint64_t nr_pages);

#endif
