/* SPDX-License-Identifier: MIT */
/*
 * Large folios of an image: which of its blocks begin as one, and what they take beyond what was
 * asked for.
 *
 * A block begins as a large folio by a single fault of the alias, before anything is written to
 * it, and is filled through the alias in parts, in any order.  Nothing of it is visible in a guest
 * before its pages are FILLED and mapped.
 *
 * Invariant: in a block that is large, pages that are UNFILLED or FAILED, and those of a fill that it
 * has not written, read as zeros, whether or not the page cache has them.  (A guest may have
 * written to pages that are ZERO.)  Usually the cache has all of the block.  But the kernel takes
 * pages out when a guest says MADV_REMOVE, and others when they punch holes through the
 * descriptor; so what maps pages by CONTINUE must expect a hole, and notes it
 * (fln_image_note_hole()).  What takes pages out here calls fln_folio_gone() before.
 */
#ifndef FLN_SOURCES_FOLIO_H
#define FLN_SOURCES_FOLIO_H

#include "base/page.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct fln_log;
struct fln_source;

/* Memory that may be allocated beyond what was asked for, besides as much as was asked for. */
#define FLN_FOLIO_SPARE_BYTES (UINT64_C(64) << 20)
/* So much more may be for a short time, if it is given back where it turns out unneeded. */
#define FLN_FOLIO_YOUNG_BYTES (UINT64_C(1) << 30)

struct fln_folio_opts {
	char *alias; /* mapped at a multiple of 2 MiB */
	int memfd;
	uint64_t len_bytes;
	uint64_t spare_pages;      /* UINT64_MAX: no limit */
	uint64_t young_pages;      /* more than that, while somebody trims */
	bool limited;              /* the file's file system has a size */
	struct fln_source *source; /* or NULL */
	const char *name;          /* of the image, as long as that lives; so the log */
	const struct fln_log *log;
};

struct fln_folios {
	struct fln_folio_opts opts;
	_Atomic uint32_t *blocks;  /* folio.c; NULL: all are small */
	uint64_t nr_blocks;        /* whole ones; the end of an image is small */
	_Atomic uint64_t nr_asked; /* pages that are FILLED */
	_Atomic uint64_t nr_spare; /* pages that large folios have besides: an upper bound */
	_Atomic uint64_t nr_large; /* blocks, as those that follow */
	_Atomic uint64_t nr_refused, nr_bounded;
	_Atomic uint32_t refused_in_row, nr_passed_over;
	_Atomic bool said;
	_Atomic bool trimmed; /* somebody looks for blocks to trim, and so young_pages holds */
};

/* A zeroed struct stands for small folios only.  Return: 0; -ENOMEM. */
int fln_folio_init(struct fln_folios *f, const struct fln_folio_opts *opts);
void fln_folio_deinit(struct fln_folios *f);

/*
 * Pages of one block are about to be written, the first ones perhaps: allocate its folio then.
 * True: write through the alias.  False: the block has small folios: write by the file.  Holds no
 * lock; blocks while the kernel clears 2 MiB, and while it compacts memory to have them.
 *
 * It may change at once, and the folio may not be there yet if another thread is just allocating
 * it.  A write through the alias allocates what is missing, or fails with an error; never does it
 * raise a signal.
 *
 * The bound on memory is looked at, then a folio is counted: each thread that begins a block at
 * the same time may exceed the bound by 2 MiB.
 */
bool fln_folio_begin(struct fln_folios *f, uint64_t page, uint32_t nr_pages);

/*
 * The same before a fill reads data of the block: if most of the block is a hole of the source,
 * which would take memory in a large folio for good, the block stays small.  Calls the source.
 */
bool fln_folio_begin_fill(struct fln_folios *f, uint64_t page, uint32_t nr_pages);

/* Pages of one block have become FILLED, either way; or no longer are, because they are ZERO. */
void fln_folio_filled(struct fln_folios *f, uint64_t page, uint32_t nr_pages);
void fln_folio_unfilled(struct fln_folios *f, uint64_t page, uint32_t nr_pages);

/*
 * Pages are, or may be, taken out of the page cache: their blocks are not large any more.  What
 * else they have is still counted as memory beyond what was asked for.
 */
void fln_folio_gone(struct fln_folios *f, uint64_t page, uint64_t nr_pages);

/* After fln_folio_gone(): they have been.  Blocks that are so as a whole take no memory. */
void fln_folio_punched(struct fln_folios *f, uint64_t page, uint64_t nr_pages);

/*
 * Somebody looks, from now on and every second, for blocks whose folios are not needed, and trims
 * them, or does so no longer.
 */
void fln_folio_set_trimmed(struct fln_folios *f, bool trimmed);

/* Is more allocated beyond what was asked for than may be for long? */
bool fln_folio_must_trim(const struct fln_folios *f);

/* The block is about to be trimmed: it is large no more.  False: nothing is to be had there. */
bool fln_folio_trim(struct fln_folios *f, uint64_t block);

/* Pages of one block that is trimmed, which are not filled, were punched out. */
void fln_folio_trimmed(struct fln_folios *f, uint64_t page, uint32_t nr_pages);

/* Of @nr_pages (at most 512) from @page on, those in blocks that are large; bit 0 is @page. */
struct fln_mask fln_folio_pages(const struct fln_folios *f, uint64_t page, uint32_t nr_pages);

/* A hint: fln_image_block_is_large().  The other also if nothing of the block was written yet. */
bool fln_folio_is_large(const struct fln_folios *f, uint64_t block);
bool fln_folio_may_be_large(const struct fln_folios *f, uint64_t block);

/* Pages of the block that fills have published, if it is large; else 0. */
uint32_t fln_folio_nr_filled(const struct fln_folios *f, uint64_t block);

/* May the kernel keep memory of the block that no fill has written?  fln_folio_trim() ends that. */
bool fln_folio_has_spare(const struct fln_folios *f, uint64_t block);

#endif
