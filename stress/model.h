/* SPDX-License-Identifier: MIT */
/*
 * What each page may hold at a moment: the judge of everything that is read.
 *
 * A word per page: its kind and version, how many threads read it just now, whether
 * one writes it, and whether it is being given up.  Readers share a page, a writer
 * has it alone.  A page that is being given up may be read meanwhile, and then holds
 * the one or the other, word by word.
 */
#ifndef STRESS_MODEL_H
#define STRESS_MODEL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* What vCPUs call is model.c once more, compiled for them (guest_model.c). */
#ifdef STRESS_IN_GUEST
#define model_begin_read guest_model_begin_read
#define model_end_read guest_model_end_read
#define model_begin_write guest_model_begin_write
#define model_end_write guest_model_end_write
#endif

enum page_kind {
	PAGE_IMAGE,         /* the image's contents, or zero where it has a hole */
	PAGE_WRITTEN,       /* the last write */
	PAGE_ZERO,          /* given up */
	PAGE_IMAGE_OR_ZERO, /* given up by MADV_DONTNEED, and perhaps never filled before */
	PAGE_GAP,           /* nothing is there: nobody reads, writes or gives it up */
};

struct model {
	_Atomic uint64_t *pages;
	uint64_t nr_pages;
	uint64_t seed;
};

int model_init(struct model *m, uint64_t nr_pages, uint64_t seed);
void model_deinit(struct model *m);

/* Begin to read: false when somebody writes it. *@word is handed to model_end_read(). */
bool model_begin_read(struct model *m, uint64_t page, uint64_t *word);

/*
 * What was read was @words, between the two calls.  Return: whether it may have been.
 * With @words NULL nothing was read.
 */
bool model_end_read(struct model *m, uint64_t page, uint64_t word, const uint64_t *words);

/* Begin to write: false when others have it.  *@stamp is what it is to hold. */
bool model_begin_write(struct model *m, uint64_t page, uint64_t *stamp);
/* @written: it has been; else it is as before. */
void model_end_write(struct model *m, uint64_t page, bool written);

enum discard_effect {
	DISCARD_NOTHING,  /* it was not given up after all */
	DISCARD_KEEPS,    /* MADV_DONTNEED of shared memory: contents come back, once filled */
	DISCARD_ZEROES,   /* it is zero afterwards */
	DISCARD_TO_IMAGE, /* the image's contents come back: private memory that is unmapped */
	DISCARD_TO_IMAGE_OR_ZERO, /* the one or the other, and nobody sees to it which */
};

/* Begin to give a page up: false when somebody writes it, or gives it up. */
bool model_begin_discard(struct model *m, uint64_t page);
void model_end_discard(struct model *m, uint64_t page, enum discard_effect effect);

/* Nobody reads or writes: every page holds the image's contents again; gaps stay gaps. */
void model_reset(struct model *m);
/* Nobody reads or writes: whether these pages are there at all. */
void model_set_gap(struct model *m, uint64_t page, uint64_t nr, bool gap);
/* It holds something for certain, which can be read whether somebody serves it or not. */
bool model_is_settled(const struct model *m, uint64_t page);

/* For messages: what the page may hold, in words. */
const char *model_describe(struct model *m, uint64_t page, char *buf, uint32_t len);

#endif
