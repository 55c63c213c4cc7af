/* SPDX-License-Identifier: MIT */
/*
 * Large folios of an image: which of its blocks begin as one, and what they take beyond what was
 * asked for.
 *
 * The kernel decides whether there is a large folio: shmem_enabled, a tmpfs mount's huge=, memory
 * that is fragmented or limited.  So we try, with MADV_POPULATE_WRITE, which reports by errno what
 * a store would report by a signal, and look whether the page cache has the whole block then.
 * After many refusals in a row only a few blocks are tried.
 *
 * A word per block has its state, and the number of its pages that were written.  A block goes from
 * NEW to LARGE or SMALL, and from LARGE to SMALL; never back.  Threads that write other pages of a
 * block which is just becoming large go through the alias as well: the kernel gives all of them the
 * same folio.
 *
 * Tested by unit.folio, integration.folio, integration.folio_sources.
 */
#include "sources/folio.h"

#include "base/error.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/map.h"
#include "base/plant.h"
#include "sources/source.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

#define STATE_SHIFT 16u
#define STATE_NEW 0u
#define STATE_LARGE (1u << STATE_SHIFT)
#define STATE_SMALL (2u << STATE_SHIFT)
#define STATE_MASK (3u << STATE_SHIFT)
#define NR_WRITTEN(word) ((word)&0xffffu)

_Static_assert(FLN_BLOCK_PAGES < 1u << STATE_SHIFT, "the count fits");

#define MANY_REFUSALS 16u /* in a row */
#define TRY_EVERY 64u     /* so many blocks, after that */

static uint64_t table_bytes(uint64_t nr_blocks)
{
	return nr_blocks * sizeof(_Atomic uint32_t);
}

int fln_folio_init(struct fln_folios *f, const struct fln_folio_opts *opts)
{
	uint64_t nr_blocks = opts->len_bytes / FLN_BLOCK_BYTES;
	void *table;

	memset(f, 0, sizeof(*f));
	/* The advice fails where the kernel has no transparent huge pages. */
	if (nr_blocks == 0 || madvise(opts->alias, opts->len_bytes, MADV_HUGEPAGE) != 0)
		return 0;
	/* Zero pages that the kernel allocates on first touch. */
	table = fln_map_closed(NULL, table_bytes(nr_blocks),
			       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (table != MAP_FAILED && fln_map_open(table, table_bytes(nr_blocks), true) != 0) {
		(void)munmap(table, table_bytes(nr_blocks));
		table = MAP_FAILED;
	}
	if (table == MAP_FAILED)
		return fln_fail(ENOMEM, "image %s: no address space for the states of %llu blocks",
				opts->name, (unsigned long long)nr_blocks);
	f->opts = *opts;
	f->blocks = table;
	f->nr_blocks = nr_blocks;
	return 0;
}

void fln_folio_deinit(struct fln_folios *f)
{
	if (f->blocks)
		(void)munmap(f->blocks, table_bytes(f->nr_blocks));
	f->blocks = NULL;
	f->nr_blocks = 0;
}

/* Memory beyond what was asked for that is allowed, once @nr_pages more are. */
static uint64_t limit_of(const struct fln_folios *f, uint64_t nr_pages, bool young)
{
	uint64_t asked = atomic_load_explicit(&f->nr_asked, memory_order_relaxed) + nr_pages;

	if (f->opts.spare_pages == UINT64_MAX)
		return UINT64_MAX;
	return f->opts.spare_pages + asked + (young ? f->opts.young_pages : 0);
}

/* Would memory beyond what was asked for stay within its bound with one large folio more? */
static bool is_within_bound(const struct fln_folios *f, uint32_t nr_pages)
{
	uint64_t spare = atomic_load_explicit(&f->nr_spare, memory_order_relaxed);
	bool young = atomic_load_explicit(&f->trimmed, memory_order_relaxed);

	return spare + FLN_BLOCK_PAGES - nr_pages <= limit_of(f, nr_pages, young);
}

/* Has the page cache nothing of the block? */
static bool is_empty(const struct fln_folios *f, uint64_t block)
{
	off_t at = (off_t)(block * FLN_BLOCK_BYTES), next = lseek(f->opts.memfd, at, SEEK_DATA);

	/* ENXIO: a hole up to the end of the file. */
	return next < 0 ? errno == ENXIO : next >= at + (off_t)FLN_BLOCK_BYTES;
}

/* Is at least half of the block data of the source? */
static bool is_half_data(struct fln_source *source, uint64_t block)
{
	uint64_t at = block * FLN_BLOCK_BYTES, end = at + FLN_BLOCK_BYTES, data = 0;

	while (at < end && data < FLN_BLOCK_BYTES / 2) {
		int is_hole;
		uint64_t len = fln_source_extent(source, at, end - at, &is_hole);

		data += is_hole ? 0 : len;
		at += len;
	}
	return data >= FLN_BLOCK_BYTES / 2;
}

/* A block that was large, or should have become it, is small; @word is what it was. */
static void count_small(struct fln_folios *f, uint32_t word)
{
	atomic_fetch_sub_explicit(&f->nr_large, 1, memory_order_relaxed);
	atomic_fetch_sub_explicit(&f->nr_spare, FLN_BLOCK_PAGES - NR_WRITTEN(word),
				  memory_order_relaxed);
}

/* Move a block from the state @from to SMALL.  False: it is in another one. */
static bool make_small(struct fln_folios *f, uint64_t block, uint32_t from)
{
	uint32_t word = atomic_load_explicit(&f->blocks[block], memory_order_relaxed);

	do {
		if ((word & STATE_MASK) != from)
			return false;
	} while (!atomic_compare_exchange_weak(&f->blocks[block], &word,
					       STATE_SMALL | NR_WRITTEN(word)));
	if (from == STATE_LARGE)
		count_small(f, word);
	return true;
}

static void tell_refused(struct fln_folios *f)
{
	if (atomic_exchange_explicit(&f->said, true, memory_order_relaxed))
		return;
	fln_log(f->opts.log, FLN_LOG_INFO,
		"image %s: the kernel gives it no large folio, so its memory is filled in pages of "
		"4 KiB at three times the cost; permit them with "
		"/sys/kernel/mm/transparent_hugepage/shmem_enabled set to advise, or a tmpfs "
		"mount's huge=advise (faultlane doctor tells what is set)",
		f->opts.name);
}

static void refuse(struct fln_folios *f, uint64_t block, uint32_t from)
{
	if (!make_small(f, block, from))
		return;
	atomic_fetch_add_explicit(&f->nr_refused, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&f->refused_in_row, 1, memory_order_relaxed);
	tell_refused(f);
}

/* Allocate at @page what the kernel gives.  Return: whether that is the whole block. */
static bool populate(struct fln_folios *f, uint64_t page)
{
	unsigned char in_cache[FLN_BLOCK_PAGES];
	char *block = f->opts.alias + fln_pages_to_bytes(fln_align_down(page, FLN_BLOCK_PAGES));
	int rc;

	do
		rc = madvise(f->opts.alias + fln_pages_to_bytes(page), FLN_PAGE_BYTES,
			     MADV_POPULATE_WRITE);
	while (rc != 0 && (errno == EINTR || errno == EAGAIN));
	if (rc != 0 || mincore(block, FLN_BLOCK_BYTES, in_cache) != 0)
		return false;
	for (uint32_t i = 0; i < FLN_BLOCK_PAGES; i++) {
		if (!(in_cache[i] & 1))
			return false;
	}
	return true;
}

static void begin_block(struct fln_folios *f, uint64_t page, uint32_t nr_pages)
{
	uint64_t block = page / FLN_BLOCK_PAGES;
	uint32_t word = STATE_NEW;

	if (!is_within_bound(f, nr_pages)) {
		if (make_small(f, block, STATE_NEW))
			atomic_fetch_add_explicit(&f->nr_bounded, 1, memory_order_relaxed);
		return;
	}
	if (atomic_load_explicit(&f->refused_in_row, memory_order_relaxed) >= MANY_REFUSALS &&
	    block % TRY_EVERY != 0) {
		refuse(f, block, STATE_NEW);
		return;
	}
	/* Bytes that an adopted memfd came with would be taken for zeros. */
	if (!fln_planted(FLN_BUG_FOLIO_OVER_OLD) && !is_empty(f, block)) {
		(void)make_small(f, block, STATE_NEW);
		return;
	}
	/* Counted first: what is taken off again, by any thread, was added before. */
	atomic_fetch_add_explicit(&f->nr_large, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&f->nr_spare, FLN_BLOCK_PAGES, memory_order_relaxed);
	if (!atomic_compare_exchange_strong(&f->blocks[block], &word, STATE_LARGE)) {
		count_small(f, 0);
		return;
	}
	if (populate(f, page))
		atomic_store_explicit(&f->refused_in_row, 0, memory_order_relaxed);
	else
		refuse(f, block, STATE_LARGE);
}

void fln_folio_ask_source(struct fln_folios *f, uint64_t page)
{
	uint64_t block = page / FLN_BLOCK_PAGES;

	if (block < f->nr_blocks && f->opts.source && f->opts.source->ops.extent &&
	    (atomic_load(&f->blocks[block]) & STATE_MASK) == STATE_NEW &&
	    !is_half_data(f->opts.source, block))
		(void)make_small(f, block, STATE_NEW);
}

bool fln_folio_begin(struct fln_folios *f, uint64_t page, uint32_t nr_pages)
{
	uint64_t block = page / FLN_BLOCK_PAGES;

	FLN_DEBUG_ASSERT(nr_pages > 0);
	FLN_DEBUG_ASSERT(block == (page + nr_pages - 1) / FLN_BLOCK_PAGES);
	if (block >= f->nr_blocks)
		return false;
	fln_lock_assert_none(); /* I2: the kernel clears the folio */
	if ((atomic_load(&f->blocks[block]) & STATE_MASK) == STATE_NEW)
		begin_block(f, page, nr_pages);
	return (atomic_load(&f->blocks[block]) & STATE_MASK) == STATE_LARGE;
}

void fln_folio_wrote(struct fln_folios *f, uint64_t page, uint32_t nr_pages)
{
	uint64_t block = page / FLN_BLOCK_PAGES;
	uint32_t word, nr;

	if (block >= f->nr_blocks)
		return;
	atomic_fetch_add_explicit(&f->nr_asked, nr_pages, memory_order_relaxed);
	word = atomic_load_explicit(&f->blocks[block], memory_order_relaxed);
	/* A page is written again where a fill had failed. */
	do {
		nr = FLN_BLOCK_PAGES - NR_WRITTEN(word);
		nr = nr_pages < nr ? nr_pages : nr;
	} while (!atomic_compare_exchange_weak(&f->blocks[block], &word, word + nr));
	if ((word & STATE_MASK) == STATE_LARGE)
		atomic_fetch_sub_explicit(&f->nr_spare, nr, memory_order_relaxed);
}

void fln_folio_gone(struct fln_folios *f, uint64_t page, uint64_t nr_pages)
{
	uint64_t end = (page + nr_pages + FLN_BLOCK_PAGES - 1) / FLN_BLOCK_PAGES;

	for (uint64_t block = page / FLN_BLOCK_PAGES; block < end && block < f->nr_blocks; block++)
		(void)make_small(f, block, STATE_LARGE);
}

void fln_folio_set_trimmed(struct fln_folios *f, bool trimmed)
{
	if (atomic_load_explicit(&f->trimmed, memory_order_relaxed) != trimmed)
		atomic_store_explicit(&f->trimmed, trimmed, memory_order_relaxed);
}

bool fln_folio_must_trim(const struct fln_folios *f)
{
	return atomic_load_explicit(&f->nr_spare, memory_order_relaxed) > limit_of(f, 0, false);
}

bool fln_folio_trim(struct fln_folios *f, uint64_t block)
{
	return block < f->nr_blocks && make_small(f, block, STATE_LARGE);
}

bool fln_folio_is_large(const struct fln_folios *f, uint64_t block)
{
	return block < f->nr_blocks &&
	       (atomic_load_explicit(&f->blocks[block], memory_order_acquire) & STATE_MASK) ==
		       STATE_LARGE;
}

bool fln_folio_may_be_large(const struct fln_folios *f, uint64_t block)
{
	return block < f->nr_blocks &&
	       (atomic_load_explicit(&f->blocks[block], memory_order_acquire) & STATE_MASK) !=
		       STATE_SMALL;
}

struct fln_mask fln_folio_pages(const struct fln_folios *f, uint64_t page, uint32_t nr_pages)
{
	struct fln_mask m = { { 0 } };
	uint64_t end = page + nr_pages;

	FLN_DEBUG_ASSERT(nr_pages <= FLN_BLOCK_PAGES);
	for (uint64_t at = page; at < end;) {
		uint64_t stop = fln_block_end_page(at, end);

		if (fln_folio_is_large(f, at / FLN_BLOCK_PAGES))
			fln_mask_set_range(&m, (uint32_t)(at - page), (uint32_t)(stop - page));
		at = stop;
	}
	return m;
}
