/* SPDX-License-Identifier: MIT */
/*
 * What is mapped in truth, by /proc/self/pagemap.
 *
 * The map of a region is a hint: pages are taken away through the page cache, and
 * no event tells.  A fault mends that by itself.  Who hands memory to a system call
 * that does not wait for faults must know before, so fln_guest_populate() asks the
 * kernel: eight bytes a page, and a tenth of what mapping it costs.  So does who resolves
 * his own fault and finds that the map calls the page poisoned (resolve.c).
 */
#include "engine/pagemap.h"
#include "base/error.h"
#include "base/fd.h"
#include "engine/directory.h"
#include "engine/engine.h"
#include "engine/region_map.h"

#include <fcntl.h>
#include <unistd.h>

#define PAGEMAP_PRESENT (UINT64_C(1) << 63)
#define PAGEMAP_SWAPPED (UINT64_C(1) << 62) /* poison too: it is a marker where a page would be */
#define DISTRUST_BYTES FLN_BLOCK_BYTES /* without /proc: what is forgotten rather than believed */

bool fln_pagemap_is_empty(uint64_t addr)
{
	int fd = fln_fd_keep(open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
	uint64_t entry = PAGEMAP_PRESENT;

	if (fd < 0)
		return false;
	if (pread(fd, &entry, sizeof(entry), (off_t)(fln_bytes_to_pages(addr) * sizeof(entry))) !=
	    (ssize_t)sizeof(entry))
		entry = PAGEMAP_PRESENT;
	(void)close(fd);
	return !(entry & (PAGEMAP_PRESENT | PAGEMAP_SWAPPED));
}

/* Which pages [lo, hi) of the block at @addr have a page table entry.  False: cannot tell. */
static bool read_block(int fd, uint64_t addr, uint32_t lo, uint32_t hi, struct fln_mask *mapped)
{
	uint64_t entries[FLN_BLOCK_PAGES];
	uint64_t first = fln_bytes_to_pages(addr) + lo;
	size_t len = (hi - lo) * sizeof(*entries);

	memset(mapped, 0, sizeof(*mapped));
	if (fd < 0 || pread(fd, entries, len, (off_t)(first * sizeof(*entries))) != (ssize_t)len)
		return false;
	for (uint32_t i = 0; i < hi - lo; i++) {
		if (entries[i] & PAGEMAP_PRESENT)
			fln_mask_set(mapped, lo + i);
	}
	return true;
}

struct fln_mask fln_pagemap_confirm(int fd, struct fln_region *r, uint64_t block,
				    const struct fln_mask *pages, bool distrust)
{
	/* A huge page goes as a whole: if a part of it were forgotten, nobody could claim it. */
	bool huge = r->page_bytes == FLN_BLOCK_BYTES;
	uint64_t addr = fln_region_addr_of(r, block * FLN_BLOCK_PAGES);
	struct fln_mask present = fln_blockmap_load(&r->map, FLN_PLANE_PRESENT, block);
	struct fln_mask look, mapped, wrong;
	struct fln_chunk *c;
	uint32_t lo, hi = 0;

	look = fln_mask_and(&present, pages);
	if (fln_mask_empty(&look))
		return look;
	if (huge)
		look = present;
	lo = huge ? 0 : fln_mask_next_set(&look, 0);
	for (uint32_t from = lo; fln_mask_next_run(&look, &from, &hi); from = hi)
		;
	/* Another process's page tables are not ours to look at; its events tell all. */
	if (r->foreign || (!read_block(fd, addr, lo, hi, &mapped) && !distrust))
		mapped = look;
	wrong = fln_mask_andnot(&look, &mapped);
	if (!fln_mask_empty(&wrong)) {
		c = fln_blockmap_chunk(&r->map, block);
		if (c)
			fln_region_forget(c, &wrong);
		else
			(void)fln_blockmap_swap_uniform(&r->map, block, 1u << FLN_PLANE_PRESENT, 0);
	}
	look = fln_mask_andnot(&look, &wrong);
	return fln_mask_and(&look, pages);
}

/* How many of the pages [lo, hi) of a block are not mapped.  RCU read lock held. */
static uint32_t verify_block(int fd, struct fln_region *r, uint64_t block, uint32_t lo, uint32_t hi,
			     bool distrust)
{
	struct fln_mask range = fln_mask_range(lo, hi), mapped;

	mapped = fln_pagemap_confirm(fd, r, block, &range, distrust);
	return hi - lo - fln_mask_count(&mapped);
}

int fln_pagemap_open(void)
{
	return fln_fd_keep(open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
}

bool fln_pagemap_distrusts(uint64_t len_bytes)
{
	return len_bytes <= DISTRUST_BYTES;
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
		stop = fln_align_down(addr, FLN_BLOCK_BYTES) + FLN_BLOCK_BYTES;
		stop = stop < end ? stop : end;
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
