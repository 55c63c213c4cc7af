/* SPDX-License-Identifier: MIT */
/* The images and regions of a layout, made and mapped. */
#ifndef STRESS_IMAGES_H
#define STRESS_IMAGES_H

#include "stress/stress.h"

/* Reserve the place.  Return: 0 or a negative errno. */
int images_init(struct stress *s);
void images_deinit(struct stress *s);
/* Draw a layout, and make its images.  Return: 0 or a negative errno. */
int images_create(struct stress *s);
int images_destroy(struct stress *s);
/* What a region of ours is like: the kinds of sharing and delivery. */
void images_region_opts(const struct stress *s, struct fln_region_opts *o);
/* Map and add the regions of the guest. */
int images_add_regions(struct stress *s);
/* The guest has been destroyed: nothing of it is left mapped, and the place stays ours. */
void images_unmap(struct stress *s);
/* The image of a segment. */
struct fln_image *images_of(struct stress *s, const struct segment *g);

#endif
