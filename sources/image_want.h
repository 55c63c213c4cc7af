/* SPDX-License-Identifier: MIT */
/*
 * What a fault asks of an image: that a page be filled, and to be told when it is.
 */
#ifndef FLN_SOURCES_IMAGE_WANT_H
#define FLN_SOURCES_IMAGE_WANT_H

#include "sources/image.h"

#include <stdbool.h>
#include <stdint.h>

enum fln_image_request {
	FLN_IMAGE_IS_READY,   /* look again: it is FILLED or ZERO */
	FLN_IMAGE_IS_PENDING, /* @waiter is kicked when it has changed */
	FLN_IMAGE_IS_FAILED,
	FLN_IMAGE_IS_STARVED, /* to retry: too many fills; @waiter is kicked, ask again */
};

/* See to it that @page is filled.  Never blocks on a source.  @waiter may be FLN_NO_WAITER. */
enum fln_image_request fln_image_request(struct fln_image *image, uint64_t page, uint32_t waiter);

/* How a page is wanted that no fault waits for, or whose neighbours are not wanted. */
struct fln_image_want {
	uint32_t fill_pages; /* a fill covers at most so many, a power of two; 0: the fillers' */
	bool background;     /* fills of faults go before */
	bool peer;           /* another process asks */
	bool retry;          /* also if it has FAILED: it is read once more, alone */
	uint64_t nr_covered; /* out, PENDING: pages from @page on whose change is told as well */
	bool starved;        /* out: a fill is needed, and none was free; the waiter is kicked */
	uint64_t nr_let_go;  /* out, PENDING: when the image's has grown, ask again */
};

/* The same as fln_image_request(), with more to say. */
enum fln_image_request fln_image_want(struct fln_image *image, uint64_t page, uint32_t waiter,
				      struct fln_image_want *want);

/* FAILED pages are UNFILLED again: the next fault on one asks its source anew. */
void fln_image_forget_failed(struct fln_image *image, uint64_t page, uint64_t nr_pages);

#endif
