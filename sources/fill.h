/* SPDX-License-Identifier: MIT */
/*
 * A fill from the source: read, write into the page cache, publish, by pieces.
 */
#ifndef FLN_SOURCES_FILL_H
#define FLN_SOURCES_FILL_H

#include <stdbool.h>
#include <stdint.h>

struct fln_fill;
struct fln_image;

/* A filler's work: read, write into the cache, publish.  The fill stays the caller's. */
void fln_image_run_fill(struct fln_image *image, struct fln_fill *fill, void *buffer);

/* Read a fill from the source and publish it.  Return: the first error. */
int fln_fill_run(struct fln_image *image, struct fln_fill *fill, void *buffer);

#endif
