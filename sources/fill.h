/* SPDX-License-Identifier: MIT */
/*
 * Runs a fill from the source: read, write into the page cache, publish, one run after another.
 */
#ifndef FLN_SOURCES_FILL_H
#define FLN_SOURCES_FILL_H

#include <stdbool.h>
#include <stdint.h>

struct fln_fill;
struct fln_image;

/*
 * On a filler thread: run a fill and end it (fln_fill_end()).  @buffer: one block.  The caller
 * keeps the ownership of @fill.  Blocks on the source.
 */
void fln_image_run_fill(struct fln_image *image, struct fln_fill *fill, void *buffer);

/* Read a fill from the source and publish it.  Blocks.  Return: 0; the first error. */
int fln_fill_run(struct fln_image *image, struct fln_fill *fill, void *buffer);

#endif
