/* SPDX-License-Identifier: MIT */
/*
 * fln_guest_residency(): page states from the region's map, and below it from the image's.
 * Runs on the caller's thread and never blocks.
 *
 * Tested by integration.advice.
 */
#include "base/blockmap.h"
#include "base/cancel.h"
#include "base/error.h"
#include "base/fork.h"
#include "base/page.h"
#include "base/rcu.h"
#include "engine/confirm.h"
#include "engine/directory.h"
#include "engine/ranges.h"
#include "engine/region_map.h"
#include "engine/state/guest.h"
#include "sources/image.h"
#include "sources/image_ready.h"

#include <errno.h>
#include <faultlane/advice.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

/* The pages [lo, hi) of one block by state; each page is in exactly one mask. */
struct look {
	struct fln_mask in[FLN_RESIDENCY_NR];
};

/* Give those of @pages that are still in *@rest the state. */
static void settle(struct look *l, struct fln_mask *rest, enum fln_residency_state state,
		   const struct fln_mask *pages)
{
	l->in[state] = fln_mask_and(rest, pages);
	*rest = fln_mask_andnot(rest, pages);
}

/*
 * RCU read lock held.  @fd: /proc/self/pagemap if the map may call mapped pages ABSENT, else -1.
 */
static void look_at_block(const struct fln_region *r, uint64_t block, uint32_t lo, uint32_t hi,
			  int fd, struct look *l)
{
	struct fln_mask rest = fln_mask_range(lo, hi), m, filled = { { 0 } }, failed = { { 0 } };
	struct fln_mask mapped;
	uint64_t image_page = fln_region_image_page(r, block * FLN_BLOCK_PAGES + lo);

	memset(l, 0, sizeof(*l));
	(void)fln_pagemap_mapped(fd, fln_region_addr_of(r, block * FLN_BLOCK_PAGES), lo, hi,
				 &mapped);
	m = fln_blockmap_load(&r->map, FLN_PLANE_PRESENT, block);
	m = fln_mask_or(&m, &mapped);
	settle(l, &rest, FLN_RESIDENCY_PRESENT, &m);
	if (fln_mask_empty(&rest))
		return;
	/* In other regions this plane only marks poison that is to be dropped (lift.c). */
	if (fln_region_keeps_discards(r)) {
		m = fln_blockmap_load(&r->map, FLN_PLANE_DISCARDED, block);
		settle(l, &rest, FLN_RESIDENCY_DISCARDED, &m);
	}
	fln_image_known(r->image, image_page, hi - lo, &filled, &failed);
	m = fln_blockmap_load(&r->map, FLN_PLANE_POISONED, block);
	failed = fln_mask_up(&failed, lo);
	m = fln_mask_or(&m, &failed);
	settle(l, &rest, FLN_RESIDENCY_POISONED, &m);
	m = fln_mask_up(&filled, lo);
	settle(l, &rest, FLN_RESIDENCY_FILLED, &m);
	l->in[FLN_RESIDENCY_ABSENT] = rest;
}

/* The state of every page of a block, or -1 if they may differ. */
static int uniform_state(const struct fln_region *r, uint64_t block)
{
	int planes = fln_blockmap_uniform(&r->map, block), image;
	uint64_t page;

	if (planes < 0)
		return -1;
	if (planes & (1 << FLN_PLANE_PRESENT))
		return FLN_RESIDENCY_PRESENT;
	if (planes != 0)
		return -1;
	page = fln_region_image_page(r, block * FLN_BLOCK_PAGES);
	if (page % FLN_BLOCK_PAGES != 0)
		return -1;
	image = fln_blockmap_uniform(&r->image->map, page / FLN_BLOCK_PAGES);
	return image < 0 ? -1 : image == 0 ? FLN_RESIDENCY_ABSENT : FLN_RESIDENCY_FILLED;
}

static void count_block(const struct fln_region *r, uint64_t page, uint32_t nr, int fd,
			uint8_t *vec, uint64_t sum[FLN_RESIDENCY_NR])
{
	uint64_t block = page / FLN_BLOCK_PAGES;
	uint32_t lo = (uint32_t)(page % FLN_BLOCK_PAGES);
	int uniform = fln_region_is_released(&r->map, block) ? FLN_RESIDENCY_RELEASED
		      : nr == FLN_BLOCK_PAGES                ? uniform_state(r, block)
							     : -1;
	struct look l;

	if (uniform == FLN_RESIDENCY_RELEASED || uniform == FLN_RESIDENCY_PRESENT ||
	    (uniform >= 0 && fd < 0)) {
		sum[uniform] += nr;
		if (vec)
			memset(vec, uniform, nr);
		return;
	}
	look_at_block(r, block, lo, lo + nr, fd, &l);
	for (uint32_t s = 0; s < FLN_RESIDENCY_NR; s++) {
		uint32_t at = 0, end;

		sum[s] += fln_mask_count(&l.in[s]);
		for (; vec && fln_mask_next_run(&l.in[s], &at, &end); at = end)
			memset(vec + (at - lo), (int)s, end - at);
	}
}

int fln_guest_residency(struct fln_guest *guest, uint64_t addr, uint64_t len_bytes, uint8_t *vec,
			struct fln_residency *sum)
{
	FLN_UNCANCELLABLE;
	struct fln_residency full = FLN_RESIDENCY_INIT;
	uint64_t end = addr + len_bytes;
	bool entered;
	int rc = FLN_CALL_REFUSED(guest), fd = -1;

	if (rc)
		return rc;
	rc = fln_range_check(guest, addr, len_bytes);
	if (rc)
		return rc;
	/*
	 * If mlock() overtakes a discard, the kernel refuses the discard after its event has been
	 * handled: the map has forgotten pages that stay mapped.
	 */
	if (atomic_load_explicit(&guest->advised.was_locked, memory_order_acquire))
		fd = fln_pagemap_open();
	entered = fln_rcu_enter();
	for (uint64_t at = addr; at < end && rc == 0;) {
		const struct fln_region *r;
		uint64_t stop = fln_block_end(at, end);

		fln_rcu_read_lock();
		r = fln_directory_find(guest, at);
		if (r) {
			stop = stop < r->addr + r->len_bytes ? stop : r->addr + r->len_bytes;
			count_block(r, fln_region_page_of(r, at),
				    (uint32_t)fln_bytes_to_pages(stop - at), fd,
				    vec ? vec + fln_bytes_to_pages(at - addr) : NULL,
				    full.nr_pages);
		} else {
			rc = fln_fail(EINVAL,
				      "guest %s: the region at 0x%llx was removed meanwhile",
				      guest->name, (unsigned long long)at);
		}
		fln_rcu_read_unlock();
		at = stop;
	}
	fln_rcu_leave(entered);
	if (fd >= 0)
		(void)close(fd);
	return rc == 0 && sum ? fln_out_copy(sum, &full, sizeof(full), "fln_residency") : rc;
}
