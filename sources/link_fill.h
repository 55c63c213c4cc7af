/* SPDX-License-Identifier: MIT */
/*
 * fln_image_fill() of an image that another process owns.
 */
#ifndef FLN_SOURCES_LINK_FILL_H
#define FLN_SOURCES_LINK_FILL_H

#include <stdint.h>

struct fln_image;

/* Ask for a range, and wait for the answers.  Return: 0; -EIO, and the sentence names the page. */
int fln_link_fill(struct fln_image *image, uint64_t page, uint64_t nr_pages);

#endif
