/* SPDX-License-Identifier: MIT */
/*
 * What each page may hold at a moment: the judge of everything that is read.
 *
 * One word per page: its kind and version, the number of its readers, whether a thread writes
 * it, and whether it is being discarded.  Readers share a page, a writer has it alone.  A page
 * may be read while it is being discarded, and then each of its words is the old or the new one.
 */
#ifndef STRESS_MODEL_H
#define STRESS_MODEL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* vCPUs call model.c, compiled again for the guest (guest_model.c). */
#ifdef STRESS_IN_GUEST
#define model_begin_read guest_model_begin_read
#define model_end_read guest_model_end_read
#define model_begin_write guest_model_begin_write
#define model_end_write guest_model_end_write
#endif

enum page_kind {
	PAGE_IMAGE,         /* the image's contents, or zero where it has a hole */
	PAGE_WRITTEN,       /* the last write */
	PAGE_ZERO,          /* discarded */
	PAGE_IMAGE_OR_ZERO, /* discarded by MADV_DONTNEED, and perhaps unfilled before */
	PAGE_GAP,           /* not mapped: reads, writes and discards are refused */
};

struct model {
	_Atomic uint64_t *pages;
	_Atomic bool *settled_before; /* by page: model_note_settled() */
	uint64_t nr_pages;
	uint64_t seed;
};

int model_init(struct model *m, uint64_t nr_pages, uint64_t seed);
void model_deinit(struct model *m);

/*
 * Begin to read: false while a thread writes the page, and in a gap.  *word: to be passed to
 * model_end_read().
 */
bool model_begin_read(struct model *m, uint64_t page, uint64_t *word);

/*
 * @words: what was read between the two calls; NULL: nothing was read.
 * Return: whether the page may have held that.
 */
bool model_end_read(struct model *m, uint64_t page, uint64_t word, const uint64_t *words);

/* Begin to write: false while other threads use the page.  *@stamp: the contents to write. */
bool model_begin_write(struct model *m, uint64_t page, uint64_t *stamp);
/* @written: whether the page was written; if not it is as before. */
void model_end_write(struct model *m, uint64_t page, bool written);

enum discard_effect {
	DISCARD_NOTHING,  /* the page was not discarded after all */
	DISCARD_KEEPS,    /* MADV_DONTNEED of shared memory: only unfilled pages may become zero */
	DISCARD_ZEROES,   /* the page is zero afterwards */
	DISCARD_TO_IMAGE, /* the image's contents come back: private memory that is unmapped */
	DISCARD_TO_IMAGE_OR_ZERO, /* either, because no engine decides any more */
};

/* Begin to discard a page: false while a thread writes or discards it. */
bool model_begin_discard(struct model *m, uint64_t page);
void model_end_discard(struct model *m, uint64_t page, enum discard_effect effect);

/* While no thread reads or writes: every page holds the image's contents again; gaps stay gaps. */
void model_reset(struct model *m);
/* While no thread reads or writes: mark pages as a gap, or as mapped. */
void model_set_gap(struct model *m, uint64_t page, uint64_t nr, bool gap);
/* Whether the page is known to be filled, written or zero, and so readable without an engine. */
bool model_is_settled(const struct model *m, uint64_t page);

/*
 * Note which pages are settled, before the guest is stopped: only these are sure to stay readable.
 * A page whose fill ends during the stop may be read, and become inaccessible afterwards, because
 * the engine maps over pages that were unfilled when it looked.
 */
void model_note_settled(struct model *m);
/* Whether a page was settled at model_note_settled(), and still is. */
bool model_stays_settled(const struct model *m, uint64_t page);

/* For messages: describe what the page may hold. */
const char *model_describe(struct model *m, uint64_t page, char *buf, uint32_t len);

#endif
