/* SPDX-License-Identifier: MIT */
/*
 * A worker on the fake kernel against a trivial model, driven by a string of bytes.
 *
 * The bytes choose a guest (its size, windows, tables, what is to be done about failures)
 * and then operations: threads that touch and write, rounds of the worker, discards,
 * unmaps, moves, pushes, reads of the source that end in any order, short, or not at all,
 * calls of the kernel that fail, populating.  While the source is read other operations
 * go on.  When the bytes have come to an end nothing new happens, and everybody must be
 * served in a bounded number of rounds; or the region is closed; or the process dies.
 *
 * What the model knows of a page: whether the image's contents may be read, whether zero
 * may be, what was written last, whether it may be poisoned.  It is asked
 *   - whenever a thread has read something, or was killed (I6);
 *   - whenever a page is mapped (nothing unfilled), poisoned, or mapped over poison;
 * and after each operation no page is left claimed (I3) and the accounts balance (I4).
 */
#ifndef FLN_TESTS_SERVE_GAME_H
#define FLN_TESTS_SERVE_GAME_H

#include "tests/fuzz/bytes.h"
#include "tests/support/rig.h"

#define GAME_MAX_PAGES 1500u
#define GAME_SPARE_PAGES 300u /* places to move to */
#define GAME_STRAY_PAGES 4u   /* of them, at the end: registered, and no region's */
#define GAME_MAX_SLOTS (FLN_BLOCK_PAGES + GAME_MAX_PAGES + GAME_SPARE_PAGES)
#define GAME_NOTHING UINT16_MAX      /* in game.home: not mapped */
#define GAME_STRAY (UINT16_MAX - 1u) /* mapped, but of no region */

enum game_kind {
	GAME_SHARED,
	GAME_FOREIGN, /* anonymous memory: a discard is zero, and nothing else takes pages */
	GAME_PRIVATE, /* a discard is zero, and the image's holes show */
	GAME_NR_KINDS
};

enum game_ending {
	GAME_DRAINS, /* nothing new comes */
	GAME_CLOSES, /* the region is closed, and left to the kernel */
	GAME_DIES,   /* the process whose memory it is has gone */
	GAME_NR_ENDINGS
};

struct page_model {
	bool may_contents;
	bool may_zero;
	bool may_die;     /* it was poisoned, with reason */
	bool bad;         /* the source cannot read it */
	bool given_up;    /* for good: contents are not due any more */
	bool hurt;        /* the kernel was made to refuse it */
	uint64_t written; /* the guest's word, which alone may be read; 0: none */
	uint64_t junk;    /* lies in the cache, and was never filled; 0: none */
};

struct game {
	struct rig *r;
	struct bytes in;
	enum game_kind kind;
	enum game_ending ending;
	bool ignores_discards; /* FLN_DISCARD_IMAGE */
	bool releases;         /* now and then a block is filled, and what is whole released */
	bool draining;
	const char *trace; /* not NULL: operations are said on stderr */
	bool in_read;      /* a source is being read */
	bool arm_in_read;
	uint32_t nr_pages, nr_slots;
	/* The address space: a slot is a page of it. */
	uint16_t home[GAME_MAX_SLOTS];     /* which page of the region lies there */
	uint16_t stray_of[GAME_MAX_SLOTS]; /* which page was moved there */
	uint16_t slot_of[GAME_MAX_PAGES];  /* or GAME_NOTHING */
	struct page_model page[GAME_MAX_PAGES];
	uint64_t touched_ns[FAKE_MAX_THREADS];
	uint32_t last; /* the page that was chosen last */
	uint64_t nr_written, nr_junk;
	struct fln_job *job;
	uint32_t nr_read, nr_killed, nr_steps, nr_runs;
};

/* One game, from the first byte to the last.  Fails as a cmocka test does. */
void game_play(const uint8_t *bytes, size_t nr, bool say);

/* serve_model.c */

uint64_t game_addr(const struct game *g, uint32_t slot);
uint32_t game_slot(const struct game *g, uint64_t addr);
bool game_is_filled(const struct game *g, uint32_t page);
/* Does an event that has not come into effect cover the slot? */
bool game_is_pending(const struct game *g, uint32_t slot);
/* The model's hooks in the fake, and what it knows in the beginning. */
void model_begin(struct game *g);
/* What threads that have gone on have seen. */
void model_check_threads(struct game *g);
/* [slot, slot + nr) is discarded, and the event, if there is one, has been read. */
void model_take_effect(struct game *g, uint32_t slot, uint32_t nr, bool punch);
/* Events that were read come into effect, and woken threads run. */
void model_let_run(struct game *g);
/* After each operation. */
void model_check(struct game *g);
/* Nobody is served any more, everybody has been. */
void model_check_end(struct game *g);
/* All has been served: nothing that reads zero is poisoned still. */
void model_check_lifted(struct game *g);
/* What the kernel would give to threads if it were left alone with the region. */
void model_check_closed(struct game *g);

#endif
