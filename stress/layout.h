/* SPDX-License-Identifier: MIT */
/*
 * The layout of the memory under test: one region of one image, or many regions of several
 * images, of any size and offset, with gaps between them.
 *
 * Guest pages are numbered from stress.base, gaps included; the model uses these numbers.  A
 * segment says which image a run of guest pages maps.  Each page of an image belongs to at most
 * one segment; no region maps the rest of the image.
 */
#ifndef STRESS_LAYOUT_H
#define STRESS_LAYOUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LAYOUT_SEGMENTS 48u /* gaps included */
#define LAYOUT_IMAGES 4u

struct options;
struct stress_source;

enum image_kind {
	IMAGE_MADE, /* by the engine */
	IMAGE_ADOPTED, /* from this program's memfd with stale words, also where the source has holes */
	IMAGE_FILLED, /* from this program's memfd with the contents */
};

struct segment {
	uint64_t first, nr;   /* pages of the guest */
	uint64_t image_first; /* page of the image at @first */
	struct fln_region *region;
	uint32_t image;
	bool gap;
};

struct layout_image {
	struct fln_image *handle;
	struct fln_source *source;
	/* For the source's functions. */
	struct stress_source *from;
	const struct layout *layout;
	uint32_t index;
	enum image_kind kind;
	uint64_t nr_pages;
};

struct layout {
	uint64_t nr_pages;
	uint32_t nr_segments, nr_images;
	struct segment segments[LAYOUT_SEGMENTS];
	struct layout_image images[LAYOUT_IMAGES];
	char *room; /* reserved during the whole run; NULL: the engine makes the mapping */
	size_t room_bytes;
	char *base; /* in @room, at the beginning of a block */
	uint64_t nr_drawn;
	uint32_t nr_shards, window; /* of the guest; 0: the default */
};

/* A run of an image's pages: guest pages, or pages that no region maps. */
struct image_run {
	uint64_t page; /* unmapped pages have numbers beyond all guest pages */
	uint64_t nr;   /* at most this many pages follow */
};

/* Draw a new layout.  @dead_page: see source.h. */
void layout_draw(struct layout *l, const struct options *o, uint64_t dead_page);
/* The segment of @page; NULL: @page is in a gap, or beyond the end. */
struct segment *layout_at(struct layout *l, uint64_t page);
/* The offset of @page in its image, in bytes. */
uint64_t layout_offset(const struct segment *g, uint64_t page);
/* How many of the @nr pages from @page on are in its segment. */
uint64_t layout_clip(const struct segment *g, uint64_t page, uint64_t nr);
struct image_run layout_run(const struct layout *l, uint32_t image, uint64_t image_page);

#endif
