/* SPDX-License-Identifier: MIT */
/*
 * How the memory under test is made up: one region of one image, or many regions of
 * several images, of any size and offset, with gaps between them.
 *
 * Pages of the guest lie one behind the other from stress.base, gaps included, and these
 * numbers are the model's.  A segment says which image a run of them shows.  Each page of
 * an image belongs to one segment at most; the rest of an image no region shows.
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
	IMAGE_MADE,    /* by the engine */
	IMAGE_ADOPTED, /* ours, with rubbish in it, also where the source has holes */
	IMAGE_FILLED,  /* ours, with the contents in it */
};

struct segment {
	uint64_t first, nr;   /* pages of the guest */
	uint64_t image_first; /* page of the image that the first one shows */
	struct fln_region *region;
	uint32_t image;
	bool gap;
};

struct layout_image {
	struct fln_image *handle;
	struct fln_source *source;
	/* For its source's functions. */
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
	char *room; /* reserved as long as the run lasts; NULL: the engine makes the mapping */
	size_t room_bytes;
	char *base; /* in the room, where a block begins */
	uint64_t nr_drawn;
	uint32_t nr_shards, window; /* of the guest; 0: the default */
};

/* What a run of an image's pages is: pages of the guest, or none's. */
struct image_run {
	uint64_t page; /* none's have numbers beyond all guest pages */
	uint64_t nr;   /* so many at most that follow */
};

/* Made up anew; what lies in the images is forgotten.  @dead_page: see source.h. */
void layout_draw(struct layout *l, const struct options *o, uint64_t dead_page);
/* Whose @page is; NULL: it lies in a gap, or beyond the end. */
struct segment *layout_at(struct layout *l, uint64_t page);
/* Where in the image @page lies, in bytes. */
uint64_t layout_offset(const struct segment *g, uint64_t page);
/* So many of @nr pages from @page on as lie in its segment. */
uint64_t layout_clip(const struct segment *g, uint64_t page, uint64_t nr);
struct image_run layout_run(const struct layout *l, uint32_t image, uint64_t image_page);

#endif
