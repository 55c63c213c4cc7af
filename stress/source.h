/* SPDX-License-Identifier: MIT */
/*
 * The source of the images: computed contents, and injected source failures.
 */
#ifndef STRESS_SOURCE_H
#define STRESS_SOURCE_H

#include "stress/options.h"

#include <faultlane/faultlane.h>
#include <stdatomic.h>

struct layout_image;

struct stress_source {
	const struct options *opts;
	uint64_t dead_page; /* with source-errors: the page that always fails; else UINT64_MAX */
	_Atomic uint64_t nr_reads;
	_Atomic uint64_t nr_errors, nr_short, nr_slow;
	/* Pages whose successful reads are counted. */
	_Atomic uint64_t watched_first, watched_nr, nr_watched;
	_Atomic bool dragging; /* no read returns */
	_Atomic bool healthy;  /* no more injected failures: the run is ending */
};

void stress_source_init(struct stress_source *s, const struct options *opts);
/* Create the source of an image, im->source.  Return: 0 or a negative errno. */
int source_of_image(struct layout_image *im);
/* Count successful reads of these pages from now on. */
void source_watch(struct stress_source *s, uint64_t first_page, uint64_t nr_pages);

#endif
