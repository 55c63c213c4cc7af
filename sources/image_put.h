/* SPDX-License-Identifier: MIT */
/*
 * Contents that are brought: pushed by the embedder, or read on his own thread.
 */
#ifndef FLN_SOURCES_IMAGE_PUT_H
#define FLN_SOURCES_IMAGE_PUT_H

#include <stdbool.h>
#include <stdint.h>

struct fln_image;

/* An attached image is not changed from here.  Return: -EOPNOTSUPP. */
int fln_image_not_ours(const struct fln_image *image, const char *call);

/*
 * Is the range of a call in the image, and a multiple of @unit_bytes?
 * Return: 0; -EINVAL.
 */
int fln_image_check_range(const struct fln_image *image, uint64_t offset_bytes, uint64_t len_bytes,
			  uint64_t unit_bytes);

#endif
