/* SPDX-License-Identifier: MIT */
/*
 * The page tables of this process, by /proc/self/pagemap.
 *
 * The map of a region is a hint: punches in the page cache zap pages, and no event reports that.
 * The next fault on such a page corrects the map.  A caller that hands memory to a system call
 * which does not wait for faults must know before, so fln_guest_populate() asks the kernel
 * (confirm.c), at a tenth of the cost of mapping a page or less.  So does a thread that
 * resolves its own fault on a page that the map calls POISONED (resolve.c).
 */
#include "engine/pagemap.h"

#include "base/fd.h"
#include "base/page.h"

#include <fcntl.h>
#include <stdbool.h>
#include <unistd.h>

#define PAGEMAP_SWAPPED (UINT64_C(1) << 62)

bool fln_pagemap_is_empty(uint64_t addr)
{
	int fd = fln_fd_keep(open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
	uint64_t entry = FLN_PAGEMAP_PRESENT;

	if (fd < 0)
		return false;
	if (pread(fd, &entry, sizeof(entry), (off_t)(fln_bytes_to_pages(addr) * sizeof(entry))) !=
	    (ssize_t)sizeof(entry))
		entry = FLN_PAGEMAP_PRESENT;
	(void)close(fd);
	return !(entry & (FLN_PAGEMAP_PRESENT | PAGEMAP_SWAPPED));
}
