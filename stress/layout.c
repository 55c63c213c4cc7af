/* SPDX-License-Identifier: MIT */
#include "stress/layout.h"

#include "stress/contents.h"
#include "stress/options.h"

#include <string.h>

/* Numbers of image pages that no region maps: above all guest pages. */
#define UNMAPPED_PAGES (UINT64_C(1) << 44)
#define BLOCK_PAGES ((UINT64_C(2) << 20) / PAGE_BYTES)

struct segment *layout_at(struct layout *l, uint64_t page)
{
	uint32_t lo = 0, hi = l->nr_segments;

	while (hi - lo > 1) {
		uint32_t mid = (lo + hi) / 2;

		if (l->segments[mid].first <= page)
			lo = mid;
		else
			hi = mid;
	}
	return page < l->nr_pages && !l->segments[lo].gap ? &l->segments[lo] : NULL;
}

uint64_t layout_offset(const struct segment *g, uint64_t page)
{
	return (g->image_first + (page - g->first)) * PAGE_BYTES;
}

uint64_t layout_clip(const struct segment *g, uint64_t page, uint64_t nr)
{
	uint64_t left = g->first + g->nr - page;

	return nr < left ? nr : left;
}

struct image_run layout_run(const struct layout *l, uint32_t image, uint64_t image_page)
{
	struct image_run run = { UNMAPPED_PAGES | (uint64_t)image << 40 | image_page, UINT64_MAX };

	for (uint32_t i = 0; i < l->nr_segments; i++) {
		const struct segment *g = &l->segments[i];

		if (g->gap || g->image != image)
			continue;
		if (image_page >= g->image_first && image_page < g->image_first + g->nr) {
			run.page = g->first + (image_page - g->image_first);
			run.nr = g->first + g->nr - run.page;
			return run;
		}
		if (g->image_first > image_page && g->image_first - image_page < run.nr)
			run.nr = g->image_first - image_page;
	}
	return run;
}

static void draw_one(struct layout *l)
{
	l->nr_segments = 1;
	l->nr_images = 1;
	l->segments[0] = (struct segment){ .nr = l->nr_pages };
	l->images[0].nr_pages = l->nr_pages;
}

static void sort(uint64_t *cuts, uint32_t nr)
{
	for (uint32_t i = 1; i < nr; i++) {
		for (uint32_t k = i; k > 0 && cuts[k] < cuts[k - 1]; k--) {
			uint64_t other = cuts[k];

			cuts[k] = cuts[k - 1];
			cuts[k - 1] = other;
		}
	}
}

/* Most cuts are near another cut, so that several regions share a block. */
static uint32_t draw_cuts(const struct layout *l, struct rng *rng, uint64_t *cuts)
{
	uint32_t nr = 2 + (uint32_t)rng_below(rng, LAYOUT_SEGMENTS - 10), kept = 1;

	cuts[0] = 0;
	for (uint32_t i = 1; i <= nr; i++) {
		uint64_t at = rng_below(rng, l->nr_pages);

		if (i > 1 && rng_below(rng, 4))
			at = cuts[1 + rng_below(rng, i - 1)] + 1 + rng_below(rng, BLOCK_PAGES);
		cuts[i] = at % l->nr_pages;
	}
	sort(cuts, nr + 1);
	for (uint32_t i = 1; i <= nr; i++) {
		if (cuts[i] != cuts[kept - 1])
			cuts[kept++] = cuts[i];
	}
	return kept;
}

/* Choose an image and an offset behind its other segments, often aligned like the guest's blocks. */
static void place_in_image(struct layout *l, struct rng *rng, struct segment *g)
{
	struct layout_image *im;

	g->image = (uint32_t)rng_below(rng, l->nr_images);
	im = &l->images[g->image];
	g->image_first = im->nr_pages + (rng_below(rng, 2) ? rng_below(rng, 700) : 0);
	if (rng_below(rng, 3) == 0)
		g->image_first += (g->first - g->image_first) % BLOCK_PAGES;
	im->nr_pages = g->image_first + g->nr;
}

static void draw_random(struct layout *l, const struct options *o)
{
	struct rng rng = { mix(o->seed ^ mix(0x1a707 + l->nr_drawn++)) };
	uint64_t cuts[LAYOUT_SEGMENTS];
	uint32_t nr = draw_cuts(l, &rng, cuts), nr_regions = 0;

	l->nr_segments = nr;
	l->nr_images = 2 + (uint32_t)rng_below(&rng, LAYOUT_IMAGES - 1);
	for (uint32_t i = 0; i < nr; i++) {
		struct segment *g = &l->segments[i];

		*g = (struct segment){ .first = cuts[i] };
		g->nr = (i + 1 < nr ? cuts[i + 1] : l->nr_pages) - cuts[i];
		g->gap = nr_regions >= 3 && g->nr <= l->nr_pages / 16 && rng_below(&rng, 6) == 0;
		nr_regions += !g->gap;
		if (!g->gap)
			place_in_image(l, &rng, g);
	}
	l->nr_shards = (uint32_t)rng_below(&rng, 3);
	l->window = rng_below(&rng, 2) ? 0 : 512;
	for (uint32_t i = 0; i < l->nr_images; i++) {
		struct layout_image *im = &l->images[i];
		uint64_t dice = rng_below(&rng, 8);

		/* At least one image has to be filled. */
		im->kind = dice < 2             ? IMAGE_MADE
			   : dice < 6 || i == 0 ? IMAGE_ADOPTED
						: IMAGE_FILLED;
		im->nr_pages += 1 + rng_below(&rng, 100);
	}
}

void layout_draw(struct layout *l, const struct options *o, uint64_t dead_page)
{
	struct segment *dead;

	memset(l->images, 0, sizeof(l->images));
	l->nr_pages = o->memory_bytes / PAGE_BYTES;
	if (o->random_layout)
		draw_random(l, o);
	else
		draw_one(l);
	/* A page that always fails needs a source. */
	dead = layout_at(l, dead_page);
	if (dead && l->images[dead->image].kind == IMAGE_FILLED)
		l->images[dead->image].kind = IMAGE_ADOPTED;
}
