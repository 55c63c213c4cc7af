/* SPDX-License-Identifier: MIT */
/* Creates and maps the images and regions of a layout. */
#include "stress/images.h"

#include "stress/stress.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#ifndef MFD_ALLOW_SEALING
#define MFD_ALLOW_SEALING 2u
#endif

#define STALE_WORD UINT64_C(0xaaaaaaaaaaaaaaaa)

struct fln_image *images_of(struct stress *s, const struct segment *g)
{
	return s->layout.images[g->image].handle;
}

void images_region_opts(const struct stress *s, struct fln_region_opts *o)
{
	o->sharing = s->opts.is_private ? FLN_SHARING_PRIVATE : FLN_SHARING_SHARED;
	o->delivery = s->opts.in_context ? FLN_DELIVERY_IN_CONTEXT : FLN_DELIVERY_QUEUED;
	/* Private discards that read zero need one installing thread per shard; in context all install. */
	o->discard =
		s->opts.is_private && s->opts.in_context ? FLN_DISCARD_IMAGE : FLN_DISCARD_ZERO;
}

int images_init(struct stress *s)
{
	struct layout *l = &s->layout;
	void *p;

	if (!s->opts.random_layout)
		return 0;
	l->room_bytes = s->opts.memory_bytes + HUGE_BYTES;
	p = mmap(NULL, l->room_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
		 0);
	if (p == MAP_FAILED)
		return -errno;
	l->room = p;
	l->base = (char *)(((uintptr_t)p + HUGE_BYTES - 1) & ~(uintptr_t)(HUGE_BYTES - 1));
	return 0;
}

void images_deinit(struct stress *s)
{
	if (s->layout.room)
		(void)munmap(s->layout.room, s->layout.room_bytes);
	s->layout.room = NULL;
}

static int write_pages(int fd, uint64_t page, const void *buf)
{
	return pwrite(fd, buf, PAGE_BYTES, (off_t)(page * PAGE_BYTES)) == PAGE_BYTES ? 0 : -1;
}

/* Stale words are in one run of pages in four, and in all of one block in four. */
static bool is_stale(const struct stress *s, uint64_t page)
{
	return mix(s->opts.seed + page / 16) % 4 == 0 || mix(~s->opts.seed + page / 512) % 4 == 0;
}

/* Write the image's contents, or stale words. */
static int write_image(struct stress *s, const struct layout_image *im, int fd)
{
	uint64_t words[PAGE_WORDS];
	int rc = 0;

	for (uint64_t page = 0; rc == 0 && page < im->nr_pages; page++) {
		uint64_t model_page = layout_run(&s->layout, im->index, page).page;

		if (im->kind == IMAGE_FILLED) {
			if (page_is_hole(s->opts.seed, model_page))
				continue;
			page_write(words, page_stamp(s->opts.seed, model_page, 0));
			rc = write_pages(fd, page, words);
		} else if (is_stale(s, page)) {
			for (uint32_t i = 0; i < PAGE_WORDS; i++)
				words[i] = STALE_WORD;
			rc = write_pages(fd, page, words);
		}
	}
	return rc ? -ENOMEM : 0;
}

static int own_memfd(struct stress *s, const struct layout_image *im)
{
	int fd = memfd_create("stress-own", MFD_CLOEXEC | MFD_ALLOW_SEALING), rc;

	if (fd < 0)
		return -errno;
	rc = ftruncate(fd, (off_t)(im->nr_pages * PAGE_BYTES)) ? -errno : write_image(s, im, fd);
	if (rc == 0)
		return fd;
	(void)close(fd);
	return rc;
}

static int create_image(struct stress *s, struct layout_image *im)
{
	struct fln_image_opts o = FLN_IMAGE_OPTS_INIT;
	int rc = 0;

	o.len_bytes = im->nr_pages * PAGE_BYTES;
	o.name = "stress";
	o.page_bytes = s->opts.huge ? (uint32_t)HUGE_BYTES : 0;
	o.folio = s->opts.folio;
	/* In a random layout some images have none, a tight bound or no bound. */
	if (s->opts.random_layout && o.folio == FLN_FOLIO_AUTO)
		o.folio = (uint32_t)(mix(s->opts.seed + im->index) % FLN_FOLIO_NR);
	if (o.folio == FLN_FOLIO_AUTO && mix(s->opts.seed) % 2)
		o.folio_spare_bytes = HUGE_BYTES;
	if (im->kind != IMAGE_MADE) {
		o.flags = FLN_IMAGE_F_ADOPT | (im->kind == IMAGE_FILLED ? FLN_IMAGE_F_FILLED : 0);
		o.memfd = own_memfd(s, im);
		rc = o.memfd < 0 ? o.memfd : 0;
	}
	if (rc == 0 && im->kind != IMAGE_FILLED) {
		rc = source_of_image(im);
		o.source = im->source;
	}
	if (rc == 0)
		rc = fln_image_create(s->engine, &o, &im->handle);
	if (im->kind != IMAGE_MADE && o.memfd >= 0)
		(void)close(o.memfd);
	return rc;
}

int images_create(struct stress *s)
{
	struct layout *l = &s->layout;
	int rc = 0;

	layout_draw(l, &s->opts, s->source.dead_page);
	for (uint32_t i = 0; i < l->nr_images; i++) {
		l->images[i].from = &s->source;
		l->images[i].layout = l;
		l->images[i].index = i;
	}
	for (uint32_t i = 0; i < l->nr_segments; i++)
		model_set_gap(&s->model, l->segments[i].first, l->segments[i].nr,
			      l->segments[i].gap);
	for (uint32_t i = 0; rc == 0 && i < l->nr_images; i++)
		rc = create_image(s, &l->images[i]);
	return rc;
}

int images_destroy(struct stress *s)
{
	struct layout *l = &s->layout;
	int rc = 0;

	for (uint32_t i = 0; rc == 0 && i < l->nr_images; i++) {
		rc = fln_image_destroy(l->images[i].handle);
		if (rc)
			break;
		l->images[i].handle = NULL;
		fln_source_destroy(l->images[i].source);
		l->images[i].source = NULL;
	}
	return rc;
}

static int map_segment(struct stress *s, const struct segment *g, struct fln_region_opts *o)
{
	char *at = s->layout.base + g->first * PAGE_BYTES;
	size_t len = g->nr * PAGE_BYTES;

	if (mmap(at, len, PROT_READ | PROT_WRITE,
		 MAP_FIXED | (s->opts.is_private ? MAP_PRIVATE : MAP_SHARED),
		 fln_image_memfd(images_of(s, g)),
		 (off_t)(g->image_first * PAGE_BYTES)) == MAP_FAILED)
		return -errno;
	/* As monitors do; whether the kernel uses large pages depends on the host. */
	if (mix(g->first) & 1)
		(void)madvise(at, len, MADV_HUGEPAGE);
	o->addr = (uint64_t)(uintptr_t)at;
	return 0;
}

int images_add_regions(struct stress *s)
{
	struct layout *l = &s->layout;
	int rc = 0;

	for (uint32_t i = 0; rc == 0 && i < l->nr_segments; i++) {
		struct fln_region_opts o = FLN_REGION_OPTS_INIT;
		struct segment *g = &l->segments[i];

		if (g->gap)
			continue;
		images_region_opts(s, &o);
		o.image = images_of(s, g);
		o.image_offset_bytes = g->image_first * PAGE_BYTES;
		o.len_bytes = g->nr * PAGE_BYTES;
		if (l->room)
			rc = map_segment(s, g, &o);
		if (rc == 0)
			rc = fln_region_add(s->guest, &o, &g->region);
	}
	if (rc == 0)
		atomic_store(&s->base,
			     l->room ? l->base : (char *)fln_region_addr(l->segments[0].region));
	return rc;
}

void images_unmap(struct stress *s)
{
	struct layout *l = &s->layout;

	if (l->room)
		(void)mmap(l->room, l->room_bytes, PROT_NONE,
			   MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
}
