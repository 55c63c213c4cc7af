/* SPDX-License-Identifier: MIT */
/* A whole engine, through its public API, and single touches of its memory. */
#include "base/clock.h"
#include "base/page.h"
#include "bench/micro/subject.h"

#include <faultlane/faultlane.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define NR_BLOCKS 32u
#define LEN_BYTES (NR_BLOCKS * FLN_BLOCK_BYTES)

struct micro_context {
	struct fln_engine *engine;
	struct fln_guest *guest;
	struct fln_image *image;
	char *mem;
	uint32_t window_pages;
	uint64_t next;
	bool entered;
};

static int fill(struct fln_image *image)
{
	char *block = calloc(1, FLN_BLOCK_BYTES);
	int rc = 0;

	if (!block)
		return -1;
	memset(block, 1, FLN_BLOCK_BYTES);
	for (uint64_t at = 0; rc == 0 && at < LEN_BYTES; at += FLN_BLOCK_BYTES)
		rc = fln_image_put(image, at, block, FLN_BLOCK_BYTES);
	free(block);
	return rc;
}

static int set_up(struct micro_context *c, bool in_context)
{
	struct fln_engine_opts engine = FLN_ENGINE_OPTS_INIT;
	struct fln_guest_opts guest = FLN_GUEST_OPTS_INIT;
	struct fln_image_opts image = FLN_IMAGE_OPTS_INIT;
	struct fln_region_opts region = FLN_REGION_OPTS_INIT;
	struct fln_region *r;
	int rc = fln_engine_create(&engine, &c->engine);

	image.len_bytes = LEN_BYTES;
	guest.window_first = c->window_pages;
	guest.window_max = c->window_pages;
	if (rc == 0)
		rc = fln_image_create(c->engine, &image, &c->image);
	if (rc == 0)
		rc = fln_engine_start(c->engine);
	if (rc == 0)
		rc = fill(c->image);
	if (rc == 0)
		rc = fln_guest_create(c->engine, &guest, &c->guest);
	region.image = c->image;
	region.len_bytes = LEN_BYTES;
	region.delivery = in_context ? FLN_DELIVERY_IN_CONTEXT : FLN_DELIVERY_QUEUED;
	if (rc == 0)
		rc = fln_region_add(c->guest, &region, &r);
	if (rc == 0)
		rc = fln_guest_start(c->guest);
	if (rc)
		return rc;
	c->mem = fln_region_addr(r);
	if (!in_context)
		return 0;
	rc = fln_sigbus_install();
	if (rc == 0)
		rc = fln_thread_enter();
	c->entered = rc == 0;
	return rc;
}

struct micro_context *micro_context_new(uint32_t window_pages, bool in_context)
{
	struct micro_context *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->window_pages = window_pages;
	if (set_up(c, in_context)) {
		micro_context_free(c);
		return NULL;
	}
	return c;
}

void micro_context_free(struct micro_context *c)
{
	if (!c)
		return;
	if (c->entered)
		fln_thread_leave();
	if (c->guest) {
		(void)fln_guest_stop(c->guest);
		(void)fln_guest_destroy(c->guest);
	}
	if (c->image)
		(void)fln_image_destroy(c->image);
	if (c->engine)
		(void)fln_engine_destroy(c->engine);
	free(c);
}

double micro_context_touch_ns(struct micro_context *c)
{
	uint64_t t0, at = c->next;

	c->next += c->window_pages * FLN_PAGE_BYTES;
	if (c->next == LEN_BYTES)
		c->next = 0;
	/* All pages are mapped: unmap them, which also sends REMOVE events to the workers. */
	if (at == 0 && madvise(c->mem, LEN_BYTES, MADV_DONTNEED))
		return NAN;
	t0 = fln_now_ns();
	*(volatile char *)(c->mem + at) = 2;
	return (double)(fln_now_ns() - t0);
}
