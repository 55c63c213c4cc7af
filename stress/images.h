/* SPDX-License-Identifier: MIT */
/* Creates and maps the images and regions of a layout. */
#ifndef STRESS_IMAGES_H
#define STRESS_IMAGES_H

#include "stress/stress.h"

/* Reserve the address range.  Return: 0 or a negative errno. */
int images_init(struct stress *s);
void images_deinit(struct stress *s);
/* Draw a layout, and create its images.  Return: 0 or a negative errno. */
int images_create(struct stress *s);
int images_destroy(struct stress *s);
/* Set sharing, delivery and discard as the command line says. */
void images_region_opts(const struct stress *s, struct fln_region_opts *o);
/* Map and add the regions of the guest. */
int images_add_regions(struct stress *s);
/* After the guest was destroyed: unmap what is left of it; the address range stays reserved. */
void images_unmap(struct stress *s);
/* The image of a segment. */
struct fln_image *images_of(struct stress *s, const struct segment *g);

#endif
