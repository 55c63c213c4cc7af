/* SPDX-License-Identifier: MIT */
/*
 * Requests for pages of an image, by faults and by background work: start a fill if one is
 * needed, and kick the waiter when the page's state has changed.
 */
#ifndef FLN_SOURCES_IMAGE_WANT_H
#define FLN_SOURCES_IMAGE_WANT_H

#include "sources/image.h"

#include <stdbool.h>
#include <stdint.h>

enum fln_image_request {
	FLN_IMAGE_IS_READY,   /* the page is FILLED or ZERO: install it */
	FLN_IMAGE_IS_PENDING, /* @waiter is kicked when the page's state has changed */
	FLN_IMAGE_IS_FAILED,  /* the source has failed for this page */
	FLN_IMAGE_IS_STARVED, /* no fill free for a retry: request again once @waiter is kicked */
};

/* Request @page for a fault.  Never blocks on a source.  @waiter may be FLN_NO_WAITER. */
enum fln_image_request fln_image_request(struct fln_image *image, uint64_t page, uint32_t waiter);

/* The parameters and results of a request by fln_image_want(). */
struct fln_image_want {
	uint32_t fill_pages; /* maximum pages of a fill, a power of two; 0: the fillers' default */
	bool background;     /* no fault waits: fills for faults take precedence */
	bool rest;  /* no fault waits, but soon will: it takes turns with fills for faults */
	bool peer;  /* another process requests the page */
	bool retry; /* if the page is FAILED, read it once more, alone */
	uint64_t nr_covered; /* out, PENDING: pages from @page on whose changes kick @waiter */
	bool starved;        /* out: no fill was free for it: @waiter is kicked once one is */
	uint64_t nr_let_go;  /* out, PENDING: request again when image->nr_let_go has grown */
};

/* fln_image_request() with parameters. */
enum fln_image_request fln_image_want(struct fln_image *image, uint64_t page, uint32_t waiter,
				      struct fln_image_want *want);

/*
 * Have the UNFILLED pages of the block at @page filled, as far as fills are free.  Nothing waits for them, and nothing tells of the end but image->block_waiters.
 */
void fln_image_fill_rest(struct fln_image *image, uint64_t page);

/* Make FAILED pages of the range UNFILLED, so that the next fault reads the source again. */
void fln_image_forget_failed(struct fln_image *image, uint64_t page, uint64_t nr_pages);

#endif
