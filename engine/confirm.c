/* SPDX-License-Identifier: MIT */
/*
 * Confirming by the page tables what a region's map calls PRESENT.
 *
 * Tested by unit.populate, unit.pagemap.
 */
#include "engine/confirm.h"

#include "base/blockmap.h"
#include "base/fd.h"
#include "base/page.h"
#include "base/rcu.h"
#include "engine/pagemap.h"
#include "engine/proc_compat.h"
#include "engine/region_map.h"
#include "engine/state/guest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define SCAN_RUNS 64u
#define DISTRUST_BYTES FLN_BLOCK_BYTES /* mapping again so much costs little */

/*
 * Ask for runs of mapped pages: in a block that is mapped whole, a fourth of the cost of reading
 * its entries.  Return: 0; -errno, of a kernel without PAGEMAP_SCAN -ENOTTY, and *mapped is void.
 */
static int scan(int fd, uint64_t addr, uint32_t lo, uint32_t hi, struct fln_mask *mapped)
{
	struct page_region runs[SCAN_RUNS];
	struct pm_scan_arg scan = {
		.size = sizeof(scan),
		.start = addr + fln_pages_to_bytes(lo),
		.end = addr + fln_pages_to_bytes(hi),
		.vec = (uintptr_t)runs,
		.vec_len = SCAN_RUNS,
		.category_mask = PAGE_IS_PRESENT,
		.return_mask = PAGE_IS_PRESENT,
	};

	for (; scan.start < scan.end; scan.start = scan.walk_end) {
		int nr = ioctl(fd, PAGEMAP_SCAN, &scan);

		if (nr < 0)
			return -errno;
		for (int i = 0; i < nr; i++) {
			uint64_t from = fln_bytes_to_pages(runs[i].start - addr);
			uint64_t to = fln_bytes_to_pages(runs[i].end - addr);
			struct fln_mask run = fln_mask_range((uint32_t)from, (uint32_t)to);

			*mapped = fln_mask_or(mapped, &run);
		}
		if (scan.walk_end <= scan.start)
			return -EIO;
	}
	return 0;
}

static bool read_entries(int fd, uint64_t addr, uint32_t lo, uint32_t hi, struct fln_mask *mapped)
{
	uint64_t entries[FLN_BLOCK_PAGES];
	uint64_t first = fln_bytes_to_pages(addr) + lo;
	size_t len = (hi - lo) * sizeof(*entries);

	if (pread(fd, entries, len, (off_t)(first * sizeof(*entries))) != (ssize_t)len)
		return false;
	for (uint32_t i = 0; i < hi - lo; i++) {
		if (entries[i] & FLN_PAGEMAP_PRESENT)
			fln_mask_set(mapped, lo + i);
	}
	return true;
}

bool fln_pagemap_mapped(int fd, uint64_t addr, uint32_t lo, uint32_t hi, struct fln_mask *mapped)
{
	memset(mapped, 0, sizeof(*mapped));
	if (fd < 0)
		return false;
	if (scan(fd, addr, lo, hi, mapped) == 0)
		return true;
	memset(mapped, 0, sizeof(*mapped));
	return read_entries(fd, addr, lo, hi, mapped);
}

struct fln_mask fln_pagemap_confirm(int fd, struct fln_region *r, uint64_t block,
				    const struct fln_mask *pages, bool distrust)
{
	fln_rcu_assert_reading();
	/* A huge page is forgotten as a whole: a part of it could not be claimed again. */
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
	/* A foreign region's page tables cannot be read here, and events tell of all its discards. */
	if (r->foreign || (!fln_pagemap_mapped(fd, addr, lo, hi, &mapped) && !distrust))
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

int fln_pagemap_open(void)
{
	return fln_fd_keep(open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
}

bool fln_pagemap_distrusts(uint64_t len_bytes)
{
	return len_bytes <= DISTRUST_BYTES;
}
