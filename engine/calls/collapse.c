/* SPDX-License-Identifier: MIT */
/*
 * fln_guest_collapse(): madvise(MADV_COLLAPSE) of wholly mapped blocks, on the caller's thread.
 * The page-state map does not change: mapped pages stay mapped.
 *
 * Tested by integration.collapse.
 */
#include "base/blockmap.h"
#include "base/cancel.h"
#include "base/error.h"
#include "base/fork.h"
#include "base/map.h"
#include "base/page.h"
#include "base/rcu.h"
#include "engine/directory.h"
#include "engine/ranges.h"
#include "engine/region_map.h"
#include "engine/state/guest.h"
#include "engine/turn.h"

#include <errno.h>
#include <faultlane/advice.h>
#include <stdbool.h>
#include <sys/mman.h>

/* Is the block at @addr wholly mapped, and aligned in the image, too? */
static bool is_whole(const struct fln_guest *guest, uint64_t addr, bool *huge)
{
	bool entered = fln_rcu_enter(), whole = false;
	const struct fln_region *r;
	struct fln_mask all = fln_mask_range(0, FLN_BLOCK_PAGES), present;

	fln_rcu_read_lock();
	r = fln_directory_find(guest, addr);
	*huge = r && r->page_bytes == FLN_BLOCK_BYTES;
	if (r && !r->is_private && addr >= r->addr &&
	    addr + FLN_BLOCK_BYTES <= r->addr + r->len_bytes &&
	    fln_region_image_page(r, fln_region_page_of(r, addr)) % FLN_BLOCK_PAGES == 0) {
		present = fln_blockmap_load(&r->map, FLN_PLANE_PRESENT,
					    fln_region_page_of(r, addr) / FLN_BLOCK_PAGES);
		all = fln_mask_andnot(&all, &present);
		whole = fln_mask_empty(&all);
	}
	fln_rcu_read_unlock();
	fln_rcu_leave(entered);
	return whole;
}

struct outcome {
	uint64_t nr_tried, nr_refused, nr_done;
};

static void collapse_block(struct fln_guest *guest, uint64_t addr, struct outcome *o)
{
	bool huge;

	/* A turn per block: the region stays, and other calls wait for one block at most. */
	fln_guest_take_turn(guest);
	if (is_whole(guest, addr, &huge)) {
		o->nr_tried++;
		/* A huge page is a large page from the beginning. */
		if (huge || madvise((void *)(uintptr_t)addr, FLN_BLOCK_BYTES, MADV_COLLAPSE) == 0)
			o->nr_done++;
		else if (errno == EINVAL)
			o->nr_refused++;
	}
	fln_guest_give_turn(guest);
}

int fln_guest_collapse(struct fln_guest *guest, uint64_t addr, uint64_t len_bytes,
		       uint64_t *nr_collapsed)
{
	FLN_UNCANCELLABLE;
	struct outcome o = { 0, 0, 0 };
	uint64_t end = addr + len_bytes;
	int rc = FLN_CALL_REFUSED(guest);

	if (rc)
		return rc;
	if (guest->foreign)
		return fln_fail(ENOTSUP,
				"guest %s is foreign; call madvise() in the process that owns its "
				"memory",
				guest->name);
	rc = fln_range_check(guest, addr, len_bytes);
	if (rc)
		return rc;
	for (uint64_t at = fln_align_up(addr, FLN_BLOCK_BYTES);
	     at < end && end - at >= FLN_BLOCK_BYTES; at += FLN_BLOCK_BYTES) {
		collapse_block(guest, at, &o);
		/* Four EINVALs and no success: this kernel cannot collapse shmem at all. */
		if (o.nr_refused > 0 && o.nr_refused == o.nr_tried && o.nr_refused >= 4)
			break;
	}
	if (o.nr_tried > 0 && o.nr_refused == o.nr_tried)
		return fln_fail(ENOTSUP,
				"guest %s: this kernel refuses MADV_COLLAPSE of shared memory; it "
				"needs 6.1 or newer with CONFIG_TRANSPARENT_HUGEPAGE, and "
				"/sys/kernel/mm/transparent_hugepage/shmem_enabled other than "
				"\"deny\"",
				guest->name);
	if (nr_collapsed)
		*nr_collapsed = o.nr_done;
	return 0;
}
