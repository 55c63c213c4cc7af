/* SPDX-License-Identifier: MIT */
/*
 * Compares the pages that a guest's map calls PRESENT with the page tables; see verify.h.
 *
 * Tested by integration.populate.
 */
#include "engine/calls/verify.h"

#include "base/page.h"
#include "base/rcu.h"
#include "engine/confirm.h"
#include "engine/directory.h"
#include "engine/state/guest.h"

#include <stdbool.h>

/* How many of the pages [lo, hi) of a block are not mapped?  RCU read lock held. */
static uint32_t verify_block(int fd, struct fln_region *r, uint64_t block, uint32_t lo, uint32_t hi,
			     bool distrust)
{
	struct fln_mask range = fln_mask_range(lo, hi), mapped;

	mapped = fln_pagemap_confirm(fd, r, block, &range, distrust);
	return hi - lo - fln_mask_count(&mapped);
}

uint64_t fln_pagemap_verify(struct fln_guest *guest, int fd, uint64_t addr, uint64_t end)
{
	bool distrust = fln_pagemap_distrusts(end - addr), entered = fln_rcu_enter();
	uint64_t nr = 0;

	while (addr < end) {
		struct fln_region *r;
		uint64_t page, base, stop;

		fln_rcu_read_lock();
		r = fln_directory_find(guest, addr);
		if (!r) {
			nr += fln_bytes_to_pages(end - addr);
			fln_rcu_read_unlock();
			break;
		}
		stop = fln_block_end(addr, end);
		stop = stop < r->addr + r->len_bytes ? stop : r->addr + r->len_bytes;
		page = fln_region_page_of(r, addr);
		base = fln_align_down(page, FLN_BLOCK_PAGES);
		nr += verify_block(fd, r, base / FLN_BLOCK_PAGES, (uint32_t)(page - base),
				   (uint32_t)(fln_region_page_of(r, stop) - base), distrust);
		fln_rcu_read_unlock();
		addr = stop;
	}
	fln_rcu_leave(entered);
	return nr;
}
