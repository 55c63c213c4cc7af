/* SPDX-License-Identifier: MIT */
/*
 * The memfd behind an image: made, or adopted, and mapped for the engine.
 */
#ifndef FLN_SOURCES_MEMFD_H
#define FLN_SOURCES_MEMFD_H

#include <stdbool.h>
#include <stdint.h>

struct fln_image;
struct fln_image_opts;

/* Make or adopt the memfd and map the alias (memfd.c). */
int fln_image_open_memfd(struct fln_image *image, const struct fln_image_opts *opts);
void fln_image_close_memfd(struct fln_image *image);

/* Before another process has the memfd: it could forbid our writes by a seal. */
void fln_image_seal_seals(const struct fln_image *image);

#endif
