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
	struct fln_mask own;     /* the guest's own, swapped out or not */
	struct fln_mask swapped; /* of these; or a marker where nothing is mapped */
	struct fln_mask mapped;  /* and not the guest's own */
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
	/* Nothing can be seen: what the engine has mapped is taken to be there as it was. */
	return rc != 0 && r->mapped_by_us ? fn(r, r->addr, r->len_bytes) : rc;
}

/* Where in the image's file the page at @addr of a region has its contents. */
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
 * A page that is mapped for reading may be written to at any time, and is the guest's own
 * then.  So threads that write there wait, in their userfaultfd, from before the last look on
 * until unprotect() or until the page has been mapped over.  False: this kernel cannot (before
 * 5.19), or puts it off for too long.
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

/* What is put off for longer is done when the range is unregistered. */
static void unprotect(struct fln_region *r, uint64_t addr, uint64_t len_bytes)
{
	struct fln_uffd *u = &fln_region_shard_at(r, addr)->uffd;

	for (uint32_t i = 0; i < PROTECT_TRIES; i++) {
		if (fln_uffd_unprotect(u, addr, len_bytes) != FLN_UFFD_AGAIN)
			break;
		(void)sched_yield();
	}
}

/* Zeros over what is not the guest's own of [lo, hi) of the block at @base, as the look says. */
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
 * The last look at a range that is protected.  Protection puts markers where nothing is mapped,
 * and /proc/self/pagemap calls them swapped.  What was not mapped before is not the guest's
 * own: nobody serves it.  What was mapped for reading may have been taken out of the image, or
 * copied and swapped out: without protection a look can tell.  False: neither can this one.
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

/* The part of a range that lies in the block at @base. */
static int zero_part(struct fln_region *r, uint64_t base, uint32_t lo, uint32_t hi)
{
	void *at = (void *)(uintptr_t)(base + fln_pages_to_bytes(lo));
	size_t len = (size_t)fln_pages_to_bytes(hi - lo);
	int rc = zero_protected(r, base, lo, hi);
	struct look look;

	if (rc != -ENOSYS)
		return rc;
	/* A thread that writes there meanwhile gets a signal. */
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
	/* What is not mapped stays so: nobody serves it. */
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
