/* SPDX-License-Identifier: MIT */
/*
 * Doubted blocks: those of a foreign region whose map must not be believed at its end.
 */
#include "engine/doubt.h"

#include "base/alloc.h"
#include "base/blockmap.h"
#include "base/error.h"
#include "base/page.h"
#include "engine/state/engine.h"
#include "engine/state/guest.h"

#include <errno.h>
#include <faultlane/base.h>
#include <faultlane/guest.h>
#include <stdatomic.h>
#include <stdbool.h>

bool fln_region_is_doubted(const struct fln_region *r, uint64_t block)
{
	return r->doubted &&
	       ((atomic_load_explicit(&r->doubted[block / 64], memory_order_relaxed) >>
		 (block % 64)) &
		1);
}

static size_t doubted_bytes(const struct fln_region *r)
{
	return (size_t)((r->map.nr_blocks + 63) / 64) * sizeof(*r->doubted);
}

int fln_region_doubt_init(struct fln_region *r)
{
	if (!r->foreign || r->discard != FLN_DISCARD_IMAGE)
		return 0;
	r->doubted = fln_zalloc(&r->guest->engine->alloc, doubted_bytes(r), FLN_NODE_ANY);
	return r->doubted
		       ? 0
		       : fln_fail(ENOMEM, "region: no memory to note which blocks are discarded");
}

void fln_region_doubt(struct fln_region *r, uint64_t start, uint64_t end)
{
	uint64_t block = fln_region_page_of(r, start) / FLN_BLOCK_PAGES;
	uint64_t last = fln_region_page_of(r, end - 1) / FLN_BLOCK_PAGES;

	FLN_DEBUG_ASSERT(start < end);
	for (; r->doubted && block <= last; block++)
		atomic_fetch_or_explicit(&r->doubted[block / 64], UINT64_C(1) << (block % 64),
					 memory_order_relaxed);
}

void fln_region_doubt_free(struct fln_region *r)
{
	fln_free(&r->guest->engine->alloc, r->doubted, doubted_bytes(r), FLN_NODE_ANY);
	r->doubted = NULL;
}
