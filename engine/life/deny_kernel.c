/* SPDX-License-Identifier: MIT */
/*
 * What deny.c does to this process's mappings; see deny_kernel.h.
 *
 * In a private mapping /proc/self/pagemap tells the guest's own copies from other pages.  A copy
 * is anonymous and mapped exclusively, or swapped out.  A page of the image is a file page.  The
 * zero page is neither exclusive nor a file page.  Pages merged by KSM look like the zero page, so
 * if KSM has merged any, the answer is "unknown".
 *
 * Tested by integration.private, integration.ends.
 */
#include "engine/life/deny_kernel.h"

#include "base/fd.h"
#include "base/page.h"
#include "base/plant.h"
#include "engine/mapping.h"
#include "engine/owners.h"
#include "engine/state/engine.h"
#include "engine/state/guest.h"
#include "engine/uffd.h"
#include "engine/vacant.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define ENTRY_PRESENT (UINT64_C(1) << 63)
#define ENTRY_SWAPPED (UINT64_C(1) << 62)
#define ENTRY_FILE (UINT64_C(1) << 61)
#define ENTRY_EXCLUSIVE (UINT64_C(1) << 56)
#define PROTECT_TRIES 10000u
#define LOOKS 16u

/* Pages of a block, by what is mapped there. */
struct look {
	struct fln_mask own;     /* copies of the guest's, in memory or in swap */
	struct fln_mask swapped; /* swapped out; or a write-protection marker, nothing mapped */
	struct fln_mask mapped;  /* mapped, and no copy of the guest's */
};

/* Has KSM merged pages of this process, or where /proc does not tell, of any? */
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

/* Classify pages [lo, hi) of the block at @addr.  False: unknown. */
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
		if (e & ENTRY_SWAPPED)
			fln_mask_set(&look->swapped, i);
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
	/* /proc/self/maps is unreadable: assume that the engine's own mapping is unchanged. */
	return rc != 0 && r->mapped_by_us ? fn(r, r->addr, r->len_bytes) : rc;
}

/* The offset in the image's file of the page at @addr of a region. */
static uint64_t file_offset(const struct fln_region *r, uint64_t addr)
{
	return fln_pages_to_bytes(r->image_page) + (addr - r->addr);
}

static int kernel_vacate(struct fln_region *r, uint64_t addr, uint64_t len_bytes)
{
	return fln_vacant_map(&r->guest->engine->vacant, addr, len_bytes, file_offset(r, addr),
			      r->is_private);
}

static int map_zeros(struct fln_region *r, uint64_t addr, uint64_t len_bytes)
{
	return fln_vacant_map_zeros(&r->guest->engine->vacant, addr, len_bytes,
				    file_offset(r, addr));
}

/*
 * A write to a page that is mapped read-only copies it at any time, and the copy must be kept.  So
 * writers are made to wait on the userfaultfd, from before the last look until unprotect() or
 * until the page is mapped over.  False: this kernel cannot (before 5.19), or returned EAGAIN for
 * too long.
 */
static bool protect(struct fln_region *r, uint64_t addr, uint64_t len_bytes)
{
	struct fln_uffd *u = &fln_region_shard_at(r, addr)->uffd;
	enum fln_uffd_result result = FLN_UFFD_ERROR;

	if (fln_planted(FLN_BUG_WRITERS_DENIED) ||
	    fln_uffd_register(u, addr, len_bytes,
			      UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_MINOR |
				      UFFDIO_REGISTER_MODE_WP) != 0)
		return false;
	for (uint32_t i = 0; i < PROTECT_TRIES; i++) {
		result = fln_uffd_protect(u, addr, len_bytes);
		if (result != FLN_UFFD_AGAIN)
			break;
		(void)sched_yield();
	}
	return result == FLN_UFFD_OK;
}

/* After too many EAGAINs the protection stays until the range is unregistered. */
static void unprotect(struct fln_region *r, uint64_t addr, uint64_t len_bytes)
{
	struct fln_uffd *u = &fln_region_shard_at(r, addr)->uffd;

	for (uint32_t i = 0; i < PROTECT_TRIES; i++) {
		if (fln_uffd_unprotect(u, addr, len_bytes) != FLN_UFFD_AGAIN)
			break;
		(void)sched_yield();
	}
}

/* Map zeros over pages [lo, hi) of the block at @base, except for the guest's own copies. */
static int zero_others(struct fln_region *r, uint64_t base, uint32_t lo, uint32_t hi,
		       const struct look *look, bool is_protected)
{
	uint32_t from, to;
	int rc = 0;

	for (uint32_t page = lo; rc == 0 && page < hi; page = to) {
		from = fln_mask_next_clear(&look->own, page);
		from = from < hi ? from : hi;
		if (is_protected && from > page)
			unprotect(r, base + fln_pages_to_bytes(page),
				  fln_pages_to_bytes(from - page));
		to = fln_mask_next_set(&look->own, from);
		to = to < hi ? to : hi;
		if (to > from)
			rc = map_zeros(r, base + fln_pages_to_bytes(from),
				       fln_pages_to_bytes(to - from));
	}
	return rc;
}

/*
 * The last look, while the range is write-protected.  Protection puts markers where nothing is
 * mapped, which /proc/self/pagemap shows as swapped.  A page that was unmapped before cannot have
 * become a copy since, because no worker serves it.  A page that was mapped read-only before, and
 * is now shown as swapped, was either punched out of the image or copied and swapped out; only a
 * look without protection can tell.  False: there is such a page, try again.
 */
static bool look_protected(uint64_t base, uint32_t lo, uint32_t hi, const struct look *before,
			   struct look *look)
{
	struct fln_mask unclear, markers;

	if (!look_at(base, lo, hi, look))
		return false;
	unclear = fln_mask_and(&look->swapped, &before->mapped);
	markers = fln_mask_andnot(&look->swapped, &before->own);
	look->own = fln_mask_andnot(&look->own, &markers);
	return fln_mask_empty(&unclear);
}

static int zero_protected(struct fln_region *r, uint64_t base, uint32_t lo, uint32_t hi)
{
	uint64_t addr = base + fln_pages_to_bytes(lo), len = fln_pages_to_bytes(hi - lo);

	for (uint32_t i = 0; i < LOOKS; i++) {
		struct look before, look;
		int rc;

		if (!look_at(base, lo, hi, &before))
			return -EIO;
		if (!protect(r, addr, len)) {
			unprotect(r, addr, len);
			return -ENOSYS;
		}
		if (look_protected(base, lo, hi, &before, &look)) {
			rc = zero_others(r, base, lo, hi, &look, true);
			if (rc)
				unprotect(r, addr, len);
			return rc;
		}
		unprotect(r, addr, len);
	}
	return -EIO;
}

/* Map zeros over pages [lo, hi) of the block at @base. */
static int zero_part(struct fln_region *r, uint64_t base, uint32_t lo, uint32_t hi)
{
	void *at = (void *)(uintptr_t)(base + fln_pages_to_bytes(lo));
	size_t len = (size_t)fln_pages_to_bytes(hi - lo);
	int rc = zero_protected(r, base, lo, hi);
	struct look look;

	if (rc != -ENOSYS)
		return rc;
	/* No write protection here: a thread that writes meanwhile gets SIGSEGV. */
	if (mprotect(at, len, PROT_READ) != 0)
		return -errno;
	rc = look_at(base, lo, hi, &look) ? zero_others(r, base, lo, hi, &look, false) : -EIO;
	if (mprotect(at, len, PROT_READ | PROT_WRITE) != 0 && rc == 0)
		rc = -errno;
	return rc;
}

static int kernel_zero(struct fln_region *r, uint64_t addr, uint64_t len_bytes)
{
	uint64_t end = addr + len_bytes, stop;
	bool mapped = false;
	int rc = 0;

	for (uint64_t at = addr; !mapped && at < end; at = stop) {
		uint64_t base = fln_align_down(at, FLN_BLOCK_BYTES);
		struct look look;

		stop = fln_block_end(at, end);
		if (!look_at(base, (uint32_t)fln_bytes_to_pages(at - base),
			     (uint32_t)fln_bytes_to_pages(stop - base), &look))
			return -EIO;
		mapped = !fln_mask_empty(&look.mapped) || !fln_mask_empty(&look.own);
	}
	/* Nothing is mapped, and nothing will be, as no worker serves the range. */
	if (!mapped)
		return map_zeros(r, addr, len_bytes);
	for (uint64_t at = addr; rc == 0 && at < end; at = stop) {
		uint64_t base = fln_align_down(at, FLN_BLOCK_BYTES);

		stop = fln_block_end(at, end);
		rc = zero_part(r, base, (uint32_t)fln_bytes_to_pages(at - base),
			       (uint32_t)fln_bytes_to_pages(stop - base));
	}
	return rc;
}

const struct fln_memory_ops fln_kernel_memory = {
	.each = kernel_each,
	.vacate = kernel_vacate,
	.zero = kernel_zero,
	.nr_left = fln_mapping_nr_left,
	.own = kernel_own,
};
