/* SPDX-License-Identifier: MIT */
/*
 * Large folios of an image: which of its blocks begin as one, and what they take beyond what was
 * asked for.
 *
 * The kernel decides whether there is a large folio: shmem_enabled, a tmpfs mount's huge=, memory
 * that is fragmented or limited.  So we try, with MADV_POPULATE_WRITE, which reports by errno what
 * a store would report by a signal, and then check whether the page cache has the whole block.
 * After many refusals in a row only a few blocks are tried.
 *
 * One word per block holds its state and the number of its spare pages: pages that the folio has,
 * and that no fill has published.
 *
 *   NEW → LARGE | SMALL; LARGE → SPLIT | SMALL; SPLIT → SMALL
 *
 * A block is SPLIT when some of its pages may have left the page cache: nothing is assumed of the
 * cache any more, but the pages that no fill has published may still take memory, and so stay
 * counted until they are punched out.  Otherwise a guest could take them off the count by
 * discarding one page of each folio, and so evade the bound.
 *
 * Threads that write other pages of a block which is just becoming large go through the alias as
 * well: the kernel gives all of them the same folio.
 *
 * Tested by unit.folio, unit.folio_spare, integration.folio, integration.folio_sources.
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
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

#define STATE_SHIFT 16u
#define STATE_NEW 0u
#define STATE_LARGE (1u << STATE_SHIFT)
#define STATE_SMALL (2u << STATE_SHIFT)
#define STATE_SPLIT (3u << STATE_SHIFT)
#define STATE_MASK (3u << STATE_SHIFT)
#define STATE(word) ((word)&STATE_MASK)
#define NR_SPARE(word) ((word)&0xffffu)

_Static_assert(FLN_BLOCK_PAGES < 1u << STATE_SHIFT, "the count fits");

#define MANY_REFUSALS 16u /* in a row */
#define TRY_EVERY 16u     /* the last of so many blocks is tried, after that */
#define MAX_QUESTIONS 16u /* to the source about one block */
#define FROM(state) (1u << ((state) >> STATE_SHIFT))
#define STAT_BLOCK 512u /* bytes, of st_blocks */

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

/* How much memory beyond the pages asked for is allowed, once @nr_pages more are asked for. */
static uint64_t limit_of(const struct fln_folios *f, uint64_t nr_pages, bool young)
{
	uint64_t asked = atomic_load_explicit(&f->nr_asked, memory_order_relaxed) + nr_pages;

	if (f->opts.spare_pages == UINT64_MAX)
		return UINT64_MAX;
	return f->opts.spare_pages + asked + (young ? f->opts.young_pages : 0);
}

/* Pages of the file that are allocated; UINT64_MAX: unknown. */
static uint64_t nr_allocated(const struct fln_folios *f)
{
	struct stat st;

	return fstat(f->opts.memfd, &st) == 0
		       ? fln_bytes_to_pages((uint64_t)st.st_blocks * STAT_BLOCK)
		       : UINT64_MAX;
}

/*
 * Memory beyond what was asked for, at most.  The count is an upper bound, because it still has
 * pages that others have punched out; what the file has allocated is another.
 */
static uint64_t spare_at_most(const struct fln_folios *f)
{
	uint64_t spare = atomic_load_explicit(&f->nr_spare, memory_order_relaxed);
	uint64_t asked = atomic_load_explicit(&f->nr_asked, memory_order_relaxed);
	uint64_t there = nr_allocated(f), beyond = there > asked ? there - asked : 0;

	return spare < beyond ? spare : beyond;
}

/* Would memory beyond what was asked for stay within its bound with one large folio more? */
static bool is_within_bound(const struct fln_folios *f, uint32_t nr_pages)
{
	uint64_t spare = atomic_load_explicit(&f->nr_spare, memory_order_relaxed);
	bool young = atomic_load_explicit(&f->trimmed, memory_order_relaxed);
	uint64_t limit = limit_of(f, nr_pages, young), more = FLN_BLOCK_PAGES - nr_pages;

	return spare + more <= limit || spare_at_most(f) + more <= limit;
}

/*
 * Has the file's file system room for all of the file?  Then no page fails for want of what large
 * folios take.
 */
static bool has_room(const struct fln_folios *f)
{
	uint64_t nr_pages = fln_bytes_to_pages(f->opts.len_bytes), there;
	struct statfs fs;

	if (!f->opts.limited || f->opts.spare_pages == UINT64_MAX)
		return true;
	there = nr_allocated(f);
	return fstatfs(f->opts.memfd, &fs) == 0 &&
	       (there >= nr_pages || fln_bytes_to_pages((uint64_t)fs.f_bfree *
							(uint64_t)fs.f_bsize) >= nr_pages - there);
}

/* Has the page cache nothing of the block? */
static bool is_empty(const struct fln_folios *f, uint64_t block)
{
	off_t at = (off_t)(block * FLN_BLOCK_BYTES), next = lseek(f->opts.memfd, at, SEEK_DATA);

	/* ENXIO: a hole up to the end of the file. */
	return next < 0 ? errno == ENXIO : next >= at + (off_t)FLN_BLOCK_BYTES;
}

/*
 * Is at least half of the block data?  Only as much of it counts as a few answers of the source
 * cover, because a thread waits meanwhile.
 */
static bool is_half_data(struct fln_source *source, uint64_t block)
{
	uint64_t begin = block * FLN_BLOCK_BYTES, at = begin, data = 0;

	for (uint32_t i = 0; i < MAX_QUESTIONS && at < begin + FLN_BLOCK_BYTES; i++) {
		int is_hole;
		uint64_t len =
			fln_source_extent(source, at, begin + FLN_BLOCK_BYTES - at, &is_hole);

		data += is_hole ? 0 : len;
		at += len;
	}
	return data >= (at - begin) / 2;
}

static void uncount_spare(struct fln_folios *f, uint32_t nr_pages)
{
	atomic_fetch_sub_explicit(&f->nr_spare, nr_pages, memory_order_relaxed);
}

/*
 * Move a block to the state @to if it is in a state of @from, bits 1 << state; @keep_spare: its
 * spare pages stay counted.  False: it is in another state.
 */
static bool move(struct fln_folios *f, uint64_t block, uint32_t from, uint32_t to, bool keep_spare)
{
	uint32_t word = atomic_load_explicit(&f->blocks[block], memory_order_relaxed);

	do {
		if (!(from & FROM(STATE(word))))
			return false;
	} while (!atomic_compare_exchange_weak(&f->blocks[block], &word,
					       to | (keep_spare ? NR_SPARE(word) : 0)));
	if (STATE(word) == STATE_LARGE)
		atomic_fetch_sub_explicit(&f->nr_large, 1, memory_order_relaxed);
	if (!keep_spare)
		uncount_spare(f, NR_SPARE(word));
	return true;
}

static void tell_refused(struct fln_folios *f, int err)
{
	char text[64];

	if (atomic_exchange_explicit(&f->said, true, memory_order_relaxed))
		return;
	fln_log(f->opts.log, FLN_LOG_INFO,
		"image %s: the kernel gives no large folio (%s), so memory is filled in pages of "
		"4 KiB at three times the cost; /sys/kernel/mm/transparent_hugepage/shmem_enabled "
		"(advise), or a tmpfs mount's huge=advise, permits them; free or compact memory if "
		"they are permitted (faultlane doctor tells)",
		f->opts.name,
		err ? fln_strerror(err, text) : "not permitted, or memory is fragmented");
}

static void refuse(struct fln_folios *f, uint64_t block, uint32_t from, int err)
{
	if (!move(f, block, from, STATE_SMALL, false))
		return;
	atomic_fetch_add_explicit(&f->nr_refused, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&f->refused_in_row, 1, memory_order_relaxed);
	tell_refused(f, err);
}

/*
 * Allocate at @page what the kernel gives.  Return: whether that is the whole block; if not, *err
 * is the error of the allocation, or 0.
 *
 * For a file of another user that is not writable by its mode mincore() tells nothing, and calls
 * all of it resident.  Then a block of small folios counts as large, which costs nothing but the
 * count: an install that finds a hole is told so.
 */
static bool populate(struct fln_folios *f, uint64_t page, int *err)
{
	unsigned char in_cache[FLN_BLOCK_PAGES];
	char *block = f->opts.alias + fln_pages_to_bytes(fln_align_down(page, FLN_BLOCK_PAGES));
	int rc;

	do
		rc = madvise(f->opts.alias + fln_pages_to_bytes(page), FLN_PAGE_BYTES,
			     MADV_POPULATE_WRITE);
	while (rc != 0 && (errno == EINTR || errno == EAGAIN));
	*err = rc != 0 ? errno : 0;
	if (rc != 0 || mincore(block, FLN_BLOCK_BYTES, in_cache) != 0)
		return false;
	for (uint32_t i = 0; i < FLN_BLOCK_PAGES; i++) {
		if (!(in_cache[i] & 1))
			return false;
	}
	return true;
}

/* Is the block to be passed over, because the kernel has refused many? */
static bool is_passed_over(struct fln_folios *f)
{
	if (atomic_load_explicit(&f->refused_in_row, memory_order_relaxed) < MANY_REFUSALS)
		return false;
	return (atomic_fetch_add_explicit(&f->nr_passed_over, 1, memory_order_relaxed) + 1) %
		       TRY_EVERY !=
	       0;
}

/* Do our own rules permit that the block becomes large?  If not, it is small from now on. */
static bool may_begin(struct fln_folios *f, uint64_t block, uint32_t nr_pages, bool ask)
{
	if (!is_within_bound(f, nr_pages) || !has_room(f)) {
		if (move(f, block, FROM(STATE_NEW), STATE_SMALL, false))
			atomic_fetch_add_explicit(&f->nr_bounded, 1, memory_order_relaxed);
		return false;
	}
	if (is_passed_over(f)) {
		refuse(f, block, FROM(STATE_NEW), 0);
		return false;
	}
	/* Bytes that an adopted memfd came with would be taken for zeros. */
	if ((ask && f->opts.source && f->opts.source->ops.extent &&
	     !is_half_data(f->opts.source, block)) ||
	    (!fln_planted(FLN_BUG_FOLIO_OVER_OLD) && !is_empty(f, block))) {
		(void)move(f, block, FROM(STATE_NEW), STATE_SMALL, false);
		return false;
	}
	return true;
}

static bool begin(struct fln_folios *f, uint64_t page, uint32_t nr_pages, bool ask)
{
	uint64_t block = page / FLN_BLOCK_PAGES;
	uint32_t word = STATE_NEW;
	int err;

	FLN_DEBUG_ASSERT(nr_pages > 0);
	FLN_DEBUG_ASSERT(block == (page + nr_pages - 1) / FLN_BLOCK_PAGES);
	if (block >= f->nr_blocks)
		return false;
	fln_lock_assert_none(); /* I2: the kernel clears the folio */
	if (STATE(atomic_load(&f->blocks[block])) == STATE_NEW &&
	    may_begin(f, block, nr_pages, ask)) {
		/* Counted first: what is taken off, by any thread, was added before. */
		atomic_fetch_add_explicit(&f->nr_large, 1, memory_order_relaxed);
		atomic_fetch_add_explicit(&f->nr_spare, FLN_BLOCK_PAGES, memory_order_relaxed);
		if (!atomic_compare_exchange_strong(&f->blocks[block], &word,
						    STATE_LARGE | FLN_BLOCK_PAGES)) {
			/* Another thread has begun it, and counts it. */
			atomic_fetch_sub_explicit(&f->nr_large, 1, memory_order_relaxed);
			uncount_spare(f, FLN_BLOCK_PAGES);
		} else if (populate(f, page, &err)) {
			atomic_store_explicit(&f->refused_in_row, 0, memory_order_relaxed);
		} else {
			refuse(f, block, FROM(STATE_LARGE) | FROM(STATE_SPLIT), err);
		}
	}
	return STATE(atomic_load(&f->blocks[block])) == STATE_LARGE;
}

bool fln_folio_begin(struct fln_folios *f, uint64_t page, uint32_t nr_pages)
{
	return begin(f, page, nr_pages, false);
}

bool fln_folio_begin_fill(struct fln_folios *f, uint64_t page, uint32_t nr_pages)
{
	return begin(f, page, nr_pages, true);
}

/* Take up to @nr_pages off the spare pages of a block, if it is in a state of @in. */
static void take_spare(struct fln_folios *f, uint64_t block, uint32_t nr_pages, uint32_t in)
{
	uint32_t word = atomic_load_explicit(&f->blocks[block], memory_order_relaxed), nr;

	do {
		if (!(in & FROM(STATE(word))))
			return;
		nr = NR_SPARE(word) < nr_pages ? NR_SPARE(word) : nr_pages;
	} while (!atomic_compare_exchange_weak(&f->blocks[block], &word, word - nr));
	uncount_spare(f, nr);
}

void fln_folio_filled(struct fln_folios *f, uint64_t page, uint32_t nr_pages)
{
	uint64_t block = page / FLN_BLOCK_PAGES;

	if (block >= f->nr_blocks)
		return;
	atomic_fetch_add_explicit(&f->nr_asked, nr_pages, memory_order_relaxed);
	/*
	 * In a block that was trimmed the page is a new one, mostly.  One that was FILLING then
	 * stays counted: an upper bound, which st_blocks corrects.
	 */
	take_spare(f, block, nr_pages, FROM(STATE_LARGE) | FROM(STATE_SPLIT));
}

void fln_folio_unfilled(struct fln_folios *f, uint64_t page, uint32_t nr_pages)
{
	uint64_t asked = atomic_load_explicit(&f->nr_asked, memory_order_relaxed), left;

	if (page / FLN_BLOCK_PAGES >= f->nr_blocks)
		return;
	/* A block that is FILLED as a whole may have pages that were not filled. */
	do
		left = asked > nr_pages ? asked - nr_pages : 0;
	while (!atomic_compare_exchange_weak(&f->nr_asked, &asked, left));
}

void fln_folio_gone(struct fln_folios *f, uint64_t page, uint64_t nr_pages)
{
	uint64_t end = (page + nr_pages + FLN_BLOCK_PAGES - 1) / FLN_BLOCK_PAGES;

	for (uint64_t block = page / FLN_BLOCK_PAGES; block < end && block < f->nr_blocks; block++)
		(void)move(f, block, FROM(STATE_LARGE), STATE_SPLIT, true);
}

void fln_folio_punched(struct fln_folios *f, uint64_t page, uint64_t nr_pages)
{
	uint64_t end = (page + nr_pages) / FLN_BLOCK_PAGES;

	for (uint64_t block = (page + FLN_BLOCK_PAGES - 1) / FLN_BLOCK_PAGES;
	     block < end && block < f->nr_blocks; block++)
		(void)move(f, block, FROM(STATE_SPLIT) | FROM(STATE_SMALL), STATE_SMALL, false);
}

void fln_folio_set_trimmed(struct fln_folios *f, bool trimmed)
{
	if (atomic_load_explicit(&f->trimmed, memory_order_relaxed) != trimmed)
		atomic_store_explicit(&f->trimmed, trimmed, memory_order_relaxed);
}

bool fln_folio_must_trim(const struct fln_folios *f)
{
	uint64_t limit = limit_of(f, 0, false);

	return atomic_load_explicit(&f->nr_spare, memory_order_relaxed) > limit &&
	       spare_at_most(f) > limit;
}

bool fln_folio_trim(struct fln_folios *f, uint64_t block)
{
	return block < f->nr_blocks &&
	       move(f, block, FROM(STATE_LARGE) | FROM(STATE_SPLIT), STATE_SMALL, true);
}

void fln_folio_trimmed(struct fln_folios *f, uint64_t page, uint32_t nr_pages)
{
	uint64_t block = page / FLN_BLOCK_PAGES;

	if (block < f->nr_blocks)
		take_spare(f, block, nr_pages, FROM(STATE_SMALL));
}

static uint32_t state_of(const struct fln_folios *f, uint64_t block)
{
	return block < f->nr_blocks
		       ? STATE(atomic_load_explicit(&f->blocks[block], memory_order_acquire))
		       : STATE_SMALL;
}

bool fln_folio_is_large(const struct fln_folios *f, uint64_t block)
{
	return state_of(f, block) == STATE_LARGE;
}

bool fln_folio_has_spare(const struct fln_folios *f, uint64_t block)
{
	uint32_t state = state_of(f, block);

	return state == STATE_LARGE || state == STATE_SPLIT;
}

bool fln_folio_may_be_large(const struct fln_folios *f, uint64_t block)
{
	uint32_t state = state_of(f, block);

	return state == STATE_NEW || state == STATE_LARGE;
}

uint32_t fln_folio_nr_filled(const struct fln_folios *f, uint64_t block)
{
	uint32_t word;

	if (block >= f->nr_blocks)
		return 0;
	word = atomic_load_explicit(&f->blocks[block], memory_order_relaxed);
	return STATE(word) == STATE_LARGE ? FLN_BLOCK_PAGES - NR_SPARE(word) : 0;
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
