/* SPDX-License-Identifier: MIT */
/*
 * fln_image_fill() for an attached image, which another process owns.
 */
#ifndef FLN_SOURCES_LINK_FILL_H
#define FLN_SOURCES_LINK_FILL_H

#include <stdint.h>

struct fln_image;

/*
 * Request a range from the owner and block until it has answered.  Return: 0; -EIO, with a message
 * that names the failed page.
 */
int fln_link_fill(struct fln_image *image, uint64_t page, uint64_t nr_pages);

#endif
