/* SPDX-License-Identifier: MIT */
/*
 * fln_image_create() and fln_image_destroy(): checks the options, and counts the engine's images.
 * The image itself is made in sources/image_life.c.  Runs on the caller's thread.
 *
 * Tested by integration.bad_input, integration.regions.
 */
#include "base/alloc.h"
#include "base/cancel.h"
#include "base/error.h"
#include "base/fork.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/page.h"
#include "engine/state/engine.h"
#include "engine/state/worker.h"
#include "numa/placement.h"
#include "numa/topology.h"
#include "sources/image.h"
#include "sources/image_life.h"
#include "sources/source.h"

#include <errno.h>
#include <faultlane/base.h>
#include <faultlane/image.h>
#include <stdatomic.h>

static int check_image_opts(const struct fln_image_opts *o)
{
	uint64_t page = o->page_bytes ? o->page_bytes : FLN_PAGE_BYTES;
	uint64_t known = FLN_IMAGE_F_ADOPT | FLN_IMAGE_F_FILLED | FLN_IMAGE_F_UNSEALED;

	if (o->flags & ~known)
		return fln_fail(EINVAL, "image: flags has unknown bits 0x%llx; leave them out",
				(unsigned long long)(o->flags & ~known));
	if (o->page_bytes && o->page_bytes != FLN_PAGE_BYTES && o->page_bytes != FLN_BLOCK_BYTES)
		return fln_fail(EINVAL, "image: page_bytes is %u; use %llu, or %llu for huge pages",
				o->page_bytes, (unsigned long long)FLN_PAGE_BYTES,
				(unsigned long long)FLN_BLOCK_BYTES);
	if (o->folio >= FLN_FOLIO_NR)
		return fln_fail(EINVAL,
				"image: folio is %u; use FLN_FOLIO_AUTO, FLN_FOLIO_SMALL or "
				"FLN_FOLIO_LARGE",
				o->folio);
	if (o->folio_spare_bytes && o->folio != FLN_FOLIO_AUTO)
		return fln_fail(
			EINVAL,
			"image: folio_spare_bytes is %llu, but only FLN_FOLIO_AUTO keeps to "
			"it; set folio to that, or this to 0",
			(unsigned long long)o->folio_spare_bytes);
	if (o->len_bytes == 0 || !fln_is_aligned(o->len_bytes, page))
		return fln_fail(EINVAL,
				"image: len_bytes is %llu; use a multiple of %llu, at least "
				"that",
				(unsigned long long)o->len_bytes, (unsigned long long)page);
	if (o->len_bytes > INT64_MAX)
		return fln_fail(EINVAL,
				"image: len_bytes is %llu, more than a file can hold; use at most "
				"%lld",
				(unsigned long long)o->len_bytes, (long long)INT64_MAX);
	if ((o->flags & FLN_IMAGE_F_FILLED) && !(o->flags & FLN_IMAGE_F_ADOPT))
		return fln_fail(EINVAL, "image: FLN_IMAGE_F_FILLED needs FLN_IMAGE_F_ADOPT and a "
					"memfd that holds the contents");
	if ((o->flags & FLN_IMAGE_F_UNSEALED) && !(o->flags & FLN_IMAGE_F_ADOPT))
		return fln_fail(EINVAL, "image: FLN_IMAGE_F_UNSEALED needs FLN_IMAGE_F_ADOPT; the "
					"engine seals the memfds that it creates");
	if ((o->flags & FLN_IMAGE_F_FILLED) && o->source)
		return fln_fail(EINVAL, "image: source is given with FLN_IMAGE_F_FILLED; leave out "
					"one of them");
	if (!(o->flags & FLN_IMAGE_F_ADOPT) && o->memfd)
		return fln_fail(
			EINVAL,
			"image: memfd is %d without FLN_IMAGE_F_ADOPT; set the flag, or set "
			"memfd to 0",
			o->memfd);
	if (o->source && o->source->len_bytes < o->len_bytes)
		return fln_fail(ENODATA,
				"image: source %s has %llu bytes, and the image's len_bytes is "
				"%llu; make the image shorter",
				o->source->ops.name, (unsigned long long)o->source->len_bytes,
				(unsigned long long)o->len_bytes);
	return 0;
}

int fln_image_create(struct fln_engine *engine, const struct fln_image_opts *opts,
		     struct fln_image **out)
{
	FLN_UNCANCELLABLE;
	struct fln_image_init_opts init = { .filler = NULL };
	struct fln_image *image;
	int rc = FLN_CALL_REFUSED(engine, opts, out);

	if (rc)
		return rc;
	rc = fln_opts_copy(&init.opts, sizeof(init.opts), opts, "fln_image_opts");
	if (rc == 0)
		rc = check_image_opts(&init.opts);
	if (rc)
		return rc;
	image = fln_zalloc(&engine->alloc, sizeof(*image), FLN_NODE_ANY);
	if (!image)
		return fln_fail(ENOMEM, "no memory for an image");
	init.filler = &engine->filler;
	rc = fln_image_init(image, &init);
	if (rc) {
		fln_free(&engine->alloc, image, sizeof(*image), FLN_NODE_ANY);
		return rc;
	}
	image->engine = engine;
	if (init.opts.node && fln_topology_is_live(engine->topology) &&
	    fln_bind_memory(image->alias, image->len_bytes, init.opts.node - 1) != 0 &&
	    !atomic_exchange(&engine->said_unbound, true))
		fln_log(&engine->log, FLN_LOG_WARNING,
			"image %s: cannot bind its memory to node %u, so it may lie on any node: %s",
			image->name, init.opts.node - 1, fln_last_error());
	fln_lock(&engine->lock);
	engine->nr_images++;
	fln_unlock(&engine->lock);
	*out = image;
	return 0;
}

int fln_image_destroy(struct fln_image *image)
{
	FLN_UNCANCELLABLE;
	struct fln_engine *engine;
	uint32_t users;
	int rc;

	if (!image)
		return 0;
	if (fln_forked)
		return fln_fork_refused("fln_image_destroy");
	engine = image->engine;
	users = atomic_load(&image->nr_users);
	if (users)
		return fln_fail(EBUSY,
				"image %s: %u regions or other processes use it; first remove the "
				"regions and close the sockets of fln_image_share()",
				image->name, users);
	rc = fln_image_deinit(image, engine->opts.source_timeout_ns);
	if (rc)
		return rc == -ETIMEDOUT ? -EBUSY : rc;
	fln_lock(&engine->lock);
	engine->nr_images--;
	fln_unlock(&engine->lock);
	fln_free(&engine->alloc, image, sizeof(*image), FLN_NODE_ANY);
	return 0;
}
