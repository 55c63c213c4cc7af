/* SPDX-License-Identifier: MIT */
/*
 * Creation and destruction of an image, on the embedder's thread.
 */
#ifndef FLN_SOURCES_IMAGE_LIFE_H
#define FLN_SOURCES_IMAGE_LIFE_H

#include "sources/filler.h"
#include "sources/image.h"

#include <faultlane/image.h>
#include <stdint.h>

struct fln_image_init_opts {
	struct fln_filler *filler;
	struct fln_image_opts opts;
};

/* Initialise an image.  Return: as fln_image_create(). */
int fln_image_init(struct fln_image *image, const struct fln_image_init_opts *opts);

/*
 * Destroy an image.  Blocks until its fills have ended.  Return: 0; -ETIMEDOUT when a read is
 * still in progress after @limit_ns: the image remains usable, but queued fills are cancelled.
 */
int fln_image_deinit(struct fln_image *image, uint64_t limit_ns);

#endif
