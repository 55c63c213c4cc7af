/* SPDX-License-Identifier: MIT */
/*
 * The memfd of an image: created or adopted, and mapped for our own use (the alias).
 */
#ifndef FLN_SOURCES_MEMFD_H
#define FLN_SOURCES_MEMFD_H

#include <stdbool.h>
#include <stdint.h>

struct fln_image;
struct fln_image_opts;

/* Create or adopt the memfd and map the alias.  Return: 0; as fln_image_create(). */
int fln_image_open_memfd(struct fln_image *image, const struct fln_image_opts *opts);
void fln_image_close_memfd(struct fln_image *image);

/* Forbid further seals, before another process gets the memfd and could seal it against us. */
void fln_image_seal_seals(const struct fln_image *image);

#endif
