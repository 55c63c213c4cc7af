/* SPDX-License-Identifier: MIT */
/*
 * This process's mappings, as the kernel has them: what deny.c does to them.
 *
 * Whose page it is that a private mapping has, /proc/self/pagemap tells.  A copy of the
 * guest's own is anonymous and mapped once, or swapped out.  A page of the image is a file's;
 * the page of zeros is neither.  Pages that KSM has merged look like that one: where KSM has
 * merged any, nothing is said.
 */
#include "engine/life/deny_kernel.h"

#include "base/fd.h"
#include "base/page.h"
#include "engine/mapping.h"
#include "engine/state/guest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ENTRY_PRESENT (UINT64_C(1) << 63)
#define ENTRY_SWAPPED (UINT64_C(1) << 62)
#define ENTRY_FILE (UINT64_C(1) << 61)
#define ENTRY_EXCLUSIVE (UINT64_C(1) << 56)

/* Pages of a block, by what is mapped there. */
struct look {
	struct fln_mask own, mapped; /* mapped: and not the guest's own */
};

/* Has KSM merged pages, of this process if it tells that? */
static bool has_merged_pages(void)
{
	static const char *const files[] = { "/proc/self/ksm_merging_pages",
					     "/sys/kernel/mm/ksm/pages_sharing" };
	char buf[24];

	for (uint32_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		int fd = open(files[i], O_RDONLY | O_CLOEXEC);
		ssize_t got;

		if (fd < 0)
			continue;
		got = read(fd, buf, sizeof(buf) - 1);
		(void)close(fd);
		if (got <= 0)
			continue;
		buf[got] = '\0';
		return strtoull(buf, NULL, 10) > 0;
	}
	return false;
}

/* Pages [lo, hi) of the block at @addr.  False: unknown. */
static bool look_at(uint64_t addr, uint32_t lo, uint32_t hi, struct look *look)
{
	uint64_t entries[FLN_BLOCK_PAGES];
	size_t len = (hi - lo) * sizeof(*entries);
	int fd = fln_fd_keep(open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
	bool doubtful = false;
	ssize_t got;

	memset(look, 0, sizeof(*look));
	if (fd < 0)
		return false;
	got = pread(fd, entries, len, (off_t)((fln_bytes_to_pages(addr) + lo) * sizeof(*entries)));
	(void)close(fd);
	if (got != (ssize_t)len)
		return false;
	for (uint32_t i = lo; i < hi; i++) {
		uint64_t e = entries[i - lo];

		if ((e & ENTRY_SWAPPED) ||
		    ((e & ENTRY_PRESENT) && !(e & ENTRY_FILE) && (e & ENTRY_EXCLUSIVE)))
			fln_mask_set(&look->own, i);
		else if (e & ENTRY_PRESENT)
			fln_mask_set(&look->mapped, i);
		doubtful |= (e & ENTRY_PRESENT) && !(e & (ENTRY_FILE | ENTRY_EXCLUSIVE));
	}
	return !doubtful || !has_merged_pages();
}

static bool kernel_own(struct fln_region *r, uint64_t addr, struct fln_mask *own)
{
	struct look look;
	bool known;

	(void)r;
	known = look_at(addr, 0, FLN_BLOCK_PAGES, &look);
	*own = look.own;
	return known;
}

static int each_piece(struct fln_region *r, uint64_t addr, uint64_t len_bytes, uint64_t moved)
{
	(void)moved;
	return r->denial_fn(r, addr, len_bytes);
}

static int kernel_each(struct fln_region *r,
		       int (*fn)(struct fln_region *r, uint64_t addr, uint64_t len_bytes))
{
	int rc;

	r->denial_fn = fn;
	rc = fln_mapping_each_seen(r, r->addr, r->addr + r->len_bytes, 0, each_piece);
	/* Nothing can be seen: what the engine has mapped is taken to be there as it was. */
	return rc != 0 && r->mapped_by_us ? fn(r, r->addr, r->len_bytes) : rc;
}

static int kernel_deny(struct fln_region *r, uint64_t addr, uint64_t len_bytes)
{
	(void)r;
	return mprotect((void *)(uintptr_t)addr, (size_t)len_bytes, PROT_NONE) == 0 ? 0 : -errno;
}

/*
 * By the system call: ThreadSanitizer takes mmap() for a write, and the guest's own threads may
 * write there at this moment.
 */
static int map_zeros(uint64_t addr, uint64_t len_bytes)
{
	long at = syscall(SYS_mmap, addr, (size_t)len_bytes, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0L);

	return at == -1 ? -errno : 0;
}

/*
 * The part of a range that lies in the block at @base.  A page that is mapped for reading may
 * be written to, and is the guest's own then: the range is read-only before the last look.
 */
static int zero_part(uint64_t base, uint32_t lo, uint32_t hi)
{
	void *at = (void *)(uintptr_t)(base + fln_pages_to_bytes(lo));
	uint32_t from = lo, to;
	struct look look;
	int rc = 0;

	if (mprotect(at, (size_t)fln_pages_to_bytes(hi - lo), PROT_READ) != 0)
		return -errno;
	if (!look_at(base, lo, hi, &look))
		rc = -EIO;
	for (uint32_t page = lo; rc == 0 && page < hi; page = to) {
		from = fln_mask_next_clear(&look.own, page);
		from = from < hi ? from : hi;
		to = fln_mask_next_set(&look.own, from);
		to = to < hi ? to : hi;
		if (to > from)
			rc = map_zeros(base + fln_pages_to_bytes(from),
				       fln_pages_to_bytes(to - from));
	}
	if (mprotect(at, (size_t)fln_pages_to_bytes(hi - lo), PROT_READ | PROT_WRITE) != 0 &&
	    rc == 0)
		rc = -errno;
	return rc;
}

static int kernel_zero(struct fln_region *r, uint64_t addr, uint64_t len_bytes)
{
	uint64_t end = addr + len_bytes, stop;
	bool mapped = false;
	int rc = 0;

	(void)r;
	for (uint64_t at = addr; !mapped && at < end; at = stop) {
		uint64_t base = fln_align_down(at, FLN_BLOCK_BYTES);
		struct look look;

		stop = fln_block_end(at, end);
		if (!look_at(base, (uint32_t)fln_bytes_to_pages(at - base),
			     (uint32_t)fln_bytes_to_pages(stop - base), &look))
			return -EIO;
		mapped = !fln_mask_empty(&look.mapped) || !fln_mask_empty(&look.own);
	}
	/* What is not mapped stays so: nobody serves it. */
	if (!mapped)
		return map_zeros(addr, len_bytes);
	for (uint64_t at = addr; rc == 0 && at < end; at = stop) {
		uint64_t base = fln_align_down(at, FLN_BLOCK_BYTES);

		stop = fln_block_end(at, end);
		rc = zero_part(base, (uint32_t)fln_bytes_to_pages(at - base),
			       (uint32_t)fln_bytes_to_pages(stop - base));
	}
	return rc;
}

const struct fln_memory_ops fln_kernel_memory = {
	.each = kernel_each,
	.deny = kernel_deny,
	.zero = kernel_zero,
	.own = kernel_own,
};

void fln_kernel_unmap_zeros(const struct fln_zeroed *zeroed, uint64_t nr)
{
	FILE *maps = fln_fd_fopen("/proc/self/maps");
	uint64_t lo, hi, i = 0;

	while (maps && i < nr && fln_mapping_next_anonymous(maps, &lo, &hi)) {
		while (i < nr && zeroed[i].end <= lo)
			i++;
		for (uint64_t k = i; k < nr && zeroed[k].addr < hi; k++) {
			uint64_t from = zeroed[k].addr > lo ? zeroed[k].addr : lo;
			uint64_t to = zeroed[k].end < hi ? zeroed[k].end : hi;

			(void)munmap((void *)(uintptr_t)from, (size_t)(to - from));
		}
	}
	if (maps)
		(void)fclose(maps);
}
