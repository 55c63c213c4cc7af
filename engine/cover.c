/* SPDX-License-Identifier: MIT */
/*
 * Closing what was never filled by the run, not by the page.
 *
 * To poison a page takes an entry of its page table, as to map it would: a guest of
 * which nothing is filled costs 10 to 30 s and 2 GiB of page tables a TiB.  So long
 * runs of blocks of which nothing may be read are mapped over instead, with a file
 * that has no pages: who touches them gets SIGBUS, at once and for good.  Who waits
 * there is woken by the UNMAP event, which the workers act upon as upon any.
 *
 * Only where the mapping is ours, and is seen to be there still: an embedder's is his.
 */
#include "engine/cover.h"
#include "base/error.h"
#include "base/fd.h"
#include "engine/closing.h"
#include "engine/engine.h"
#include "engine/mapping.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Below, poisoning is cheap, and a mapping more is not. */
#define MIN_BLOCKS 16u

static size_t covered_bytes(const struct fln_region *r)
{
	return (size_t)((r->map.nr_blocks + 63) / 64) * sizeof(*r->covered);
}

bool fln_region_is_covered(const struct fln_region *r, uint64_t block)
{
	return r->covered && ((r->covered[block / 64] >> (block % 64)) & 1);
}

void fln_region_cover_free(struct fln_region *r)
{
	fln_free(&r->guest->engine->alloc, r->covered, covered_bytes(r), FLN_NODE_ANY);
	r->covered = NULL;
}

/* The file without pages: nobody can make it longer.  Return: a descriptor, or -1. */
static int open_empty(struct fln_region *r)
{
	int fd = fln_fd_keep(memfd_create("faultlane-closed", MFD_CLOEXEC | MFD_ALLOW_SEALING));
	struct stat st;

	if (fd < 0)
		return -1;
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) != 0 ||
	    fstat(fd, &st) != 0) {
		(void)close(fd);
		return -1;
	}
	r->cover_device = st.st_dev;
	r->cover_inode = st.st_ino;
	return fd;
}

/* Map over [addr, end), whole blocks but for the ends of the region. */
static void cover_run(struct fln_region *r, uint64_t addr, uint64_t end)
{
	uint64_t block = fln_region_page_of(r, addr) / FLN_BLOCK_PAGES;
	uint64_t stop = (fln_region_page_of(r, end) + FLN_BLOCK_PAGES - 1) / FLN_BLOCK_PAGES;

	if (stop - block < MIN_BLOCKS)
		return;
	/* It waits until the workers have read that the old mappings go. */
	if (mmap((void *)(uintptr_t)addr, end - addr, PROT_READ | PROT_WRITE,
		 MAP_SHARED | MAP_FIXED | MAP_NORESERVE, r->cover_fd, 0) == MAP_FAILED)
		return; /* then they are poisoned */
	for (; block < stop; block++)
		r->covered[block / 64] |= UINT64_C(1) << (block % 64);
	r->sealed = true;
}

/* May nothing of the block be read?  All of it must lie in [addr, end). */
static bool is_wholly_unsafe(const struct fln_region *r, uint64_t block, uint64_t addr,
			     uint64_t end)
{
	struct fln_mask valid = fln_blockmap_valid(&r->map, block);
	struct fln_mask unsafe = fln_region_unsafe(r, block);
	uint64_t base = fln_region_addr_of(r, block * FLN_BLOCK_PAGES);
	uint32_t lo = fln_mask_next_set(&valid, 0), hi = fln_mask_next_clear(&valid, lo);

	return base + fln_pages_to_bytes(lo) >= addr && base + fln_pages_to_bytes(hi) <= end &&
	       memcmp(&valid, &unsafe, sizeof(valid)) == 0;
}

/* A piece of the region that is still a mapping of ours at its home. */
static int cover_piece(struct fln_region *r, uint64_t addr, uint64_t len_bytes, uint64_t moved)
{
	uint64_t end = addr + len_bytes, run = addr, at = addr, stop;

	(void)moved;
	for (; at < end; at = stop) {
		stop = fln_align_down(at, FLN_BLOCK_BYTES) + FLN_BLOCK_BYTES;
		stop = stop < end ? stop : end;
		if (is_wholly_unsafe(r, fln_region_page_of(r, at) / FLN_BLOCK_PAGES, addr, end))
			continue;
		cover_run(r, run, at);
		run = stop;
	}
	cover_run(r, run, end);
	return 0;
}

/* Somebody must read the events: nobody does where the guest does not run. */
static bool are_events_read(const struct fln_region *r)
{
	for (uint32_t i = 0; i < r->guest->nr_shards; i++) {
		if (atomic_load(&fln_region_shard(r, i)->unreadable))
			return false;
	}
	return r->guest->running;
}

void fln_region_cover(struct fln_region *r)
{
	if (!r->mapped_by_us || !are_events_read(r) || r->page_bytes != FLN_PAGE_BYTES ||
	    r->map.nr_blocks < MIN_BLOCKS || r->covered)
		return;
	r->cover_fd = open_empty(r);
	if (r->cover_fd < 0)
		return;
	r->covered = fln_zalloc(&r->guest->engine->alloc, covered_bytes(r), FLN_NODE_ANY);
	if (r->covered)
		(void)fln_mapping_each_seen(r, r->addr, r->addr + r->len_bytes, 0, cover_piece);
	(void)close(r->cover_fd);
	r->cover_fd = -1;
}
