/* SPDX-License-Identifier: MIT */
/*
 * Installing pages of one block, by runs.
 *
 * Each run takes one call: CONTINUE in our own regions, which map the page cache; COPY from the
 * image's alias in foreign regions.  The calls wake the threads that wait in the range.  For a
 * page that was mapped already (EEXIST) the waiters are woken by a call of their own: the thread
 * that mapped it may not have woken them, and a call without progress does not.
 *
 * The kernel requires that a call's range lies in one VMA, and the embedder may have split ours
 * by mprotect() or madvise() or by unmapping a part.  So a run that is refused as GONE is retried
 * by halves, until what remains is a page that has really gone.
 *
 * In a region of huge pages the block is one page: its 512 states move together, and a call
 * installs all of it or nothing.
 *
 * Bounded: each call maps at least one page, or settles the fate of one.
 */
#include "engine/install.h"

#include "base/page.h"
#include "base/plant.h"
#include "engine/state/guest.h"
#include "engine/uffd.h"
#include "sources/huge.h"
#include "sources/image.h"
#include "sources/image_cache.h"
#include "sources/image_discard.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>

static uint64_t addr_of(const struct fln_install *in, uint32_t page)
{
	return in->block_addr + fln_pages_to_bytes(page);
}

/* The end of the page that begins at @page: a huge page spans the block. */
static uint32_t page_end(const struct fln_install *in, uint32_t page)
{
	return page + (uint32_t)fln_bytes_to_pages(in->region->page_bytes);
}

static uint64_t image_page_of(const struct fln_install *in, uint32_t page)
{
	return fln_region_image_page(in->region, in->block_page + page);
}

/* Another thread has mapped the page: wake its waiters. */
static void settle_raced(struct fln_install *in, uint32_t page)
{
	uint32_t end = page_end(in, page);

	fln_count(&in->shard->count.pages_raced, end - page);
	if (in->region->foreign)
		atomic_store_explicit(&in->region->guest->found_pages, true, memory_order_relaxed);
	fln_mask_set_range(&in->present, page, end);
	if (fln_mask_test(&in->faulting, page) && !in->shard->in_context)
		fln_uffd_wake(&in->shard->uffd, addr_of(in, page), in->region->page_bytes);
}

/* How much of a run one call tries: all of it at first; see the halving above. */
struct pace {
	uint32_t pages;
};

static uint32_t pace_end(const struct pace *pace, uint32_t lo, uint32_t hi)
{
	return hi - lo > pace->pages ? lo + pace->pages : hi;
}

/* Adapt to the @result of a call for [lo, end).  True: retry a smaller part. */
static bool pace_adapt(struct pace *pace, const struct fln_install *in, enum fln_uffd_result result,
		       uint32_t lo, uint32_t end)
{
	if (result == FLN_UFFD_OK) {
		pace->pages *= 2;
		return false;
	}
	if (result != FLN_UFFD_GONE || end <= page_end(in, lo) ||
	    atomic_load_explicit(&in->shard->uffd.process_gone, memory_order_relaxed))
		return false;
	pace->pages = (end - lo) / 2;
	return true;
}

static void settle_installed(struct fln_install *in, uint32_t lo, uint32_t hi)
{
	fln_mask_set_range(&in->present, lo, hi);
	in->nr_installed += hi - lo;
	fln_count(&in->shard->count.pages_installed, hi - lo);
}

/*
 * Settle the run [lo, hi), for which a call has failed.  Returns the page to go on from.
 * FLN_UFFD_NO_PAGE is its caller's to handle.
 */
static uint32_t settle_failed(struct fln_install *in, enum fln_uffd_result result, uint32_t lo,
			      uint32_t hi)
{
	switch (result) {
	case FLN_UFFD_PRESENT:
		settle_raced(in, lo);
		return page_end(in, lo);
	case FLN_UFFD_AGAIN:
		fln_count(&in->shard->count.again, 1);
		in->stop = true;
		fln_mask_set_range(&in->again, lo, hi);
		return hi;
	case FLN_UFFD_NO_MEMORY:
		fln_mask_set_range(&in->again, lo, hi);
		fln_mask_set_range(&in->starved, lo, hi);
		return hi;
	case FLN_UFFD_GONE:
		fln_mask_set_range(&in->gone, lo, hi);
		return hi;
	default:
		fln_mask_set_range(&in->broken, lo, page_end(in, lo));
		return page_end(in, lo);
	}
}

static enum fln_uffd_result map_run(struct fln_install *in, uint32_t lo, uint32_t hi,
				    uint64_t *done)
{
	struct fln_uffd *u = &in->shard->uffd;
	uint64_t len = fln_pages_to_bytes(hi - lo);

	if (in->region->foreign)
		return fln_uffd_copy(u, addr_of(in, lo),
				     in->region->image->alias +
					     fln_pages_to_bytes(image_page_of(in, lo)),
				     len, true, done);
	return fln_uffd_continue(u, addr_of(in, lo), len,
				 !fln_planted_in(FLN_BUG_WAKE_LEFT_OUT, 64), done);
}

/*
 * The cache has no page at @lo, though the image calls it FILLED: a discard has punched it out, so
 * zeros are due.  In a shared region they are mapped only where a thread waits, because each
 * allocates a page; in a private one zeros allocate none.
 */
static uint32_t settle_hole(struct fln_install *in, uint32_t lo, uint32_t hi)
{
	struct fln_image *image = in->region->image;
	uint64_t page = image_page_of(in, lo);
	struct fln_mask hole;
	uint32_t nr;

	if (in->region->is_private && fln_image_hole(image, page, 1) == 0) {
		/* The page is in the cache again, and zeros would hide it. */
		fln_mask_set(&in->again, lo);
		return lo + 1;
	}
	nr = fln_image_note_hole(image, page, hi - lo);
	hole = fln_mask_range(lo, lo + nr);
	if (!in->region->is_private)
		hole = fln_mask_and(&hole, &in->faulting);
	fln_install_zero(in, &hole);
	return lo + nr;
}

/*
 * The same in context.  To note the hole in the image takes its lock, which a signal handler must
 * not: for a faulting page its thread asks a worker to do that (in->hole), other pages are left
 * unmapped.  Returns the page to go on from: the next faulting one.
 */
static uint32_t leave_hole(struct fln_install *in, uint32_t lo, uint32_t hi)
{
	uint32_t next = fln_mask_next_set(&in->faulting, lo);

	if (next == lo)
		fln_mask_set_range(&in->hole, lo, hi);
	return next > lo && next < hi ? next : hi;
}

void fln_install_filled(struct fln_install *in, const struct fln_mask *pages)
{
	uint32_t lo = 0, hi;

	for (; !in->stop && fln_mask_next_run(pages, &lo, &hi); lo = hi) {
		struct pace pace = { hi - lo };

		while (lo < hi && !in->stop) {
			uint64_t done = 0;
			uint32_t end = pace_end(&pace, lo, hi);
			enum fln_uffd_result result = map_run(in, lo, end, &done);
			uint32_t upto = lo + (uint32_t)fln_bytes_to_pages(done);

			settle_installed(in, lo, upto);
			lo = upto;
			if (pace_adapt(&pace, in, result, lo, end) || result == FLN_UFFD_OK)
				continue;
			if (result == FLN_UFFD_NO_PAGE && in->shard->in_context && !in->by_worker)
				lo = leave_hole(in, lo, end);
			else if (result == FLN_UFFD_NO_PAGE && !in->region->foreign)
				lo = settle_hole(in, lo, end);
			else
				lo = settle_failed(in, result, lo, end);
		}
	}
}

/*
 * ZEROPAGE has failed with EEXIST.  In a shared mapping the page may be in the cache only, and is
 * the guest's then: map it.  In a private mapping a page or poison is in the page tables, and
 * CONTINUE would be wrong: if the page was discarded since, it would map the image's contents.
 */
static void map_cached(struct fln_install *in, uint32_t page)
{
	static const unsigned char zeros[FLN_PAGE_BYTES];
	uint64_t done = 0;
	enum fln_uffd_result result = FLN_UFFD_PRESENT;

	/* COPY replaces poison, which ZEROPAGE does not; a mapped page stays. */
	if (!in->region->foreign && in->region->is_private)
		result = fln_uffd_copy(&in->shard->uffd, addr_of(in, page), zeros, FLN_PAGE_BYTES,
				       true, &done);
	else if (!in->region->foreign)
		result = fln_uffd_continue(&in->shard->uffd, addr_of(in, page), FLN_PAGE_BYTES,
					   true, &done);
	if (result == FLN_UFFD_OK)
		settle_installed(in, page, page + 1);
	else if (result == FLN_UFFD_NO_PAGE)
		fln_mask_set(&in->again, page); /* punched out again meanwhile */
	else
		(void)settle_failed(in, result, page, page + 1);
}

/*
 * The kernel has no ZEROPAGE for huge pages: a page of zeros is allocated in the page cache and
 * mapped.  If the cache has one already, that is the guest's.
 */
static void zero_huge(struct fln_install *in)
{
	struct fln_mask all = fln_mask_range(0, FLN_BLOCK_PAGES);
	enum fln_uffd_result result;
	uint64_t done = 0;

	if (fln_huge_allocate(in->region->image, image_page_of(in, 0)) != 0) {
		in->starved = all;
		in->again = all;
		return;
	}
	result = fln_uffd_continue(&in->shard->uffd, in->block_addr, FLN_BLOCK_BYTES, true, &done);
	if (result == FLN_UFFD_OK) {
		settle_installed(in, 0, FLN_BLOCK_PAGES);
		in->zeroed = all;
	} else if (result == FLN_UFFD_NO_PAGE) {
		in->again = all; /* punched out again meanwhile */
	} else {
		(void)settle_failed(in, result, 0, FLN_BLOCK_PAGES);
	}
}

void fln_install_zero(struct fln_install *in, const struct fln_mask *pages)
{
	uint32_t lo = 0, hi;

	if (in->region->page_bytes == FLN_BLOCK_BYTES && !in->stop && !fln_mask_empty(pages)) {
		zero_huge(in);
		return;
	}
	for (; !in->stop && fln_mask_next_run(pages, &lo, &hi); lo = hi) {
		struct pace pace = { hi - lo };

		while (lo < hi && !in->stop) {
			uint64_t done = 0;
			uint32_t end = pace_end(&pace, lo, hi);
			enum fln_uffd_result result =
				fln_uffd_zeropage(&in->shard->uffd, addr_of(in, lo),
						  fln_pages_to_bytes(end - lo), true, &done);
			uint32_t upto = lo + (uint32_t)fln_bytes_to_pages(done);

			settle_installed(in, lo, upto);
			fln_mask_set_range(&in->zeroed, lo, upto);
			lo = upto;
			if (pace_adapt(&pace, in, result, lo, end) || result == FLN_UFFD_OK)
				continue;
			if (result == FLN_UFFD_PRESENT)
				map_cached(in, lo++);
			else
				lo = settle_failed(in, result, lo, end);
		}
	}
}

/*
 * Another process may have huge pages, of which a part can be neither filled nor poisoned: poison
 * the huge page.  Returns the page to go on from.
 */
static uint32_t deny_foreign(struct fln_install *in, uint32_t lo, uint32_t hi,
			     struct fln_mask *poisoned)
{
	enum fln_uffd_result result = FLN_UFFD_ERROR;

	if (fln_uffd_can_poison(&in->shard->uffd))
		result = fln_uffd_poison_huge(&in->shard->uffd, addr_of(in, lo));
	if (result != FLN_UFFD_OK)
		return settle_failed(in, result, lo, hi);
	fln_mask_set_range(poisoned, lo, hi);
	return hi;
}

/*
 * Linux before 6.6 has no UFFDIO_POISON: take the access away with mprotect() instead.  Returns
 * the page to go on from.
 */
static uint32_t deny_run(struct fln_install *in, uint32_t lo, uint32_t hi,
			 struct fln_mask *poisoned)
{
	uint64_t len = fln_pages_to_bytes(hi - lo);

	if (in->region->foreign)
		return deny_foreign(in, lo, hi, poisoned);
	if (fln_uffd_deny(&in->shard->uffd, addr_of(in, lo), len) != 0) {
		/* The waiters are not woken: to wait is safe, to read is not. */
		fln_mask_set_range(&in->broken, lo, hi);
		return hi;
	}
	fln_mask_set_range(poisoned, lo, hi);
	fln_uffd_wake(&in->shard->uffd, addr_of(in, lo), len);
	return hi;
}

void fln_install_poison(struct fln_install *in, const struct fln_mask *pages,
			struct fln_mask *poisoned)
{
	uint32_t lo = 0, hi;

	for (; !in->stop && fln_mask_next_run(pages, &lo, &hi); lo = hi) {
		struct pace pace = { hi - lo };

		while (lo < hi && !in->stop) {
			uint64_t done = 0;
			uint32_t upto, end = pace_end(&pace, lo, hi);
			enum fln_uffd_result result = FLN_UFFD_ERROR;

			if (fln_uffd_can_poison(&in->shard->uffd))
				result = fln_uffd_poison(&in->shard->uffd, addr_of(in, lo),
							 fln_pages_to_bytes(end - lo), &done);
			upto = lo + (uint32_t)fln_bytes_to_pages(done);
			fln_mask_set_range(poisoned, lo, upto);
			lo = upto;
			if (pace_adapt(&pace, in, result, lo, end) || result == FLN_UFFD_OK)
				continue;
			lo = result == FLN_UFFD_ERROR ? deny_run(in, lo, end, poisoned)
						      : settle_failed(in, result, lo, end);
		}
	}
}
