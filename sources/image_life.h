/* SPDX-License-Identifier: MIT */
/*
 * How an image begins and ends.
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

/* Return: as fln_image_create(). */
int fln_image_init(struct fln_image *image, const struct fln_image_init_opts *opts);

/*
 * Return: 0; -ETIMEDOUT when a read is in flight after @limit_ns: the image is as
 * usable as before, but fills that no thread had begun have been cancelled.
 */
int fln_image_deinit(struct fln_image *image, uint64_t limit_ns);

#endif
