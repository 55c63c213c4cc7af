/* SPDX-License-Identifier: MIT */
/*
 * Creation and destruction of an image.
 */
#include "sources/image_life.h"

#include "base/error.h"
#include "sources/free_memory.h"
#include "sources/image_punch_unfilled.h"
#include "sources/image_state.h"
#include "sources/link.h"
#include "sources/memfd.h"

#include <errno.h>

/* A bound of the embedder's always holds; ours gives way for a second, where memory is free. */
static uint64_t young_pages(void)
{
	uint64_t bytes = fln_free_memory("") / 4;

	return fln_bytes_to_pages(bytes < FLN_FOLIO_YOUNG_BYTES ? bytes : FLN_FOLIO_YOUNG_BYTES);
}

static int init_folios(struct fln_image *image, const struct fln_image_opts *opts)
{
	struct fln_folio_opts o = {
		.alias = image->alias,
		.memfd = image->memfd,
		.len_bytes = image->len_bytes,
		.limited = image->room_bytes != 0,
		.young_pages = opts->folio_spare_bytes || image->room_bytes ? 0 : young_pages(),
		.spare_pages = opts->folio == FLN_FOLIO_LARGE ? UINT64_MAX
			       : opts->folio_spare_bytes
				       ? fln_bytes_to_pages(opts->folio_spare_bytes)
				       : fln_bytes_to_pages(FLN_FOLIO_SPARE_BYTES),
		.source = image->source,
		.name = image->name,
		.log = &image->filler->opts.log,
	};

	/* What is filled already, or cannot be written, is not allocated here. */
	if (opts->folio == FLN_FOLIO_SMALL || fln_image_is_huge(image) || image->read_only ||
	    opts->flags & FLN_IMAGE_F_FILLED)
		return 0;
	return fln_folio_init(&image->folios, &o);
}

int fln_image_init(struct fln_image *image, const struct fln_image_init_opts *init)
{
	const struct fln_image_opts *opts = &init->opts;
	bool filled = opts->flags & FLN_IMAGE_F_FILLED;
	uint64_t nr_pages = fln_bytes_to_pages(opts->len_bytes);
	uint64_t nr_blocks = (nr_pages + FLN_BLOCK_PAGES - 1) / FLN_BLOCK_PAGES;
	int rc;

	memset(image, 0, sizeof(*image));
	image->filler = init->filler;
	image->source = opts->source;
	image->can_be_late = opts->source != NULL;
	image->adopted = opts->flags & FLN_IMAGE_F_ADOPT;
	image->unsealed = opts->flags & FLN_IMAGE_F_UNSEALED;
	image->len_bytes = opts->len_bytes;
	image->page_bytes = opts->page_bytes;
	(void)snprintf(image->name, sizeof(image->name), "%s",
		       opts->name ? opts->name : "faultlane");
	if (nr_blocks > (UINT32_MAX >> 1))
		return fln_fail(EINVAL, "image %s: len_bytes is %llu, above the maximum of %llu",
				image->name, (unsigned long long)opts->len_bytes,
				(unsigned long long)(UINT32_MAX >> 1) * FLN_BLOCK_BYTES);
	rc = fln_image_open_memfd(image, opts);
	if (rc)
		return rc;
	rc = init_folios(image, opts);
	if (rc)
		goto err_memfd;
	rc = fln_blockmap_init(&image->map, 0, nr_pages, (uint32_t)nr_blocks * 2,
			       filled ? 1u << FLN_IMAGE_PLANE_FILLED : 0);
	if (rc)
		goto err_folio;
	rc = fln_filler_add_queue(image->filler, &image->queue, image->source);
	if (rc)
		goto err_map;
	image->queue.set = fln_image_set(image);
	atomic_store_explicit(&image->nr_done, filled ? nr_pages : 0, memory_order_relaxed);
	atomic_store_explicit(&image->poison_lo, UINT64_MAX, memory_order_relaxed);
	fln_lock_init(&image->lock, FLN_RANK_IMAGE);
	fln_cond_init(&image->written);
	if (image->source)
		fln_source_get(image->source);
	return 0;

err_map:
	fln_blockmap_deinit(&image->map);
err_folio:
	fln_folio_deinit(&image->folios);
err_memfd:
	fln_image_close_memfd(image);
	return rc;
}

/* Put the pages of a queued fill back to UNFILLED and free it. */
static void cancel_fill(struct fln_image *image, struct fln_fill *fill)
{
	if (fill->trims) {
		fln_image_trim_ended(image);
	} else {
		fln_fill_publish(image, fill, 0, fill->nr_pages, FLN_IMAGE_UNFILLED);
		fln_fill_end(image, fill);
	}
	fln_filler_free(image->filler, &image->queue, fill);
}

int fln_image_deinit(struct fln_image *image, uint64_t limit_ns)
{
	struct fln_fill *fill = fln_filler_withdraw(image->filler, &image->queue);
	bool entered = fln_rcu_enter();

	fln_link_close(image);
	atomic_store_explicit(&image->ending, true, memory_order_relaxed);
	while (fill) {
		struct fln_fill *next = fill->next;

		cancel_fill(image, fill);
		fill = next;
	}
	fln_rcu_leave(entered);
	if (!fln_filler_drain(image->filler, &image->queue, limit_ns)) {
		atomic_store_explicit(&image->ending, false, memory_order_relaxed);
		return fln_fail(ETIMEDOUT,
				"image %s: a read of source '%s' has not come back; repair "
				"the source, then call again",
				image->name, image->source->ops.name);
	}
	fln_filler_remove_queue(image->filler, &image->queue);
	fln_blockmap_deinit(&image->map);
	fln_folio_deinit(&image->folios);
	fln_image_close_memfd(image);
	(void)pthread_cond_destroy(&image->written);
	fln_lock_deinit(&image->lock);
	fln_source_put(image->source);
	return 0;
}
