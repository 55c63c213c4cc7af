/* SPDX-License-Identifier: MIT */
/*
 * What is done with a block: mapped by windows, released, filled to its end, or the unneeded memory
 * of its large folio given back.  Pure arithmetic; docs/TUNING.md has the table, and the
 * measurements behind it.
 *
 * A whole block that is one large folio costs least when it is released: the kernel maps it by one
 * entry.  Small folios are mapped by the kernel page by page, for 1.3 µs each where a window takes
 * 0.2.  So a block of small folios that is touched densely costs less when windows map it, and one
 * that is touched sparsely when it is released; both cost the same where a quarter of the pages is
 * touched.  Such a block is therefore released once all of it is mapped or it is quiet, or at its
 * first fault where blocks of this guest have turned out sparse.
 *
 * How densely is observed in one block in FLN_CONTROL_BLOCKS, chosen by address.  Such a control
 * has windows of FLN_CONTROL_PAGES only, so that the parts of it that are mapped are those that
 * were touched, and it stays registered until it is quiet.
 *
 * The rest of a large folio is filled when a fault finds a part of it filled, and waits for another:
 * one fault does not tell a dense guest from a sparse one, nor do many on the same page, and the
 * rest of the block takes as long to fill as two faults.
 */
#ifndef FLN_ENGINE_BLOCK_POLICY_H
#define FLN_ENGINE_BLOCK_POLICY_H

#include "base/clock.h"
#include "base/page.h"

#include <faultlane/guest.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/*
 * A block without a new fault for so long is quiet.  Two looks are needed to see that, so all is
 * released within a second of the last fault.
 */
#define FLN_QUIET_NS (400 * FLN_NS_PER_MS)
#define FLN_CONTROL_BLOCKS 64u
#define FLN_CONTROL_PAGES 16u

/* How densely the controls of a guest were touched.  Changed by workers. */
struct fln_turnout {
	_Atomic uint32_t nr_dense, nr_sparse; /* controls, older ones counting less */
};

enum fln_density_seen {
	FLN_SEEN_UNKNOWN,
	FLN_SEEN_DENSE,
	FLN_SEEN_SPARSE
};

/* Is the block at @block_addr a control? */
bool fln_block_is_control(uint64_t block_addr);

/* A control that had faults is quiet, and @present are its pages that are mapped. */
void fln_turnout_note(struct fln_turnout *t, const struct fln_mask *present);

/*
 * All of a control is mapped, after @nr_faults faults.  If those were enough for each of its parts
 * it was touched densely; otherwise it was populated, or read ahead, which tells nothing.
 */
void fln_turnout_note_mapped(struct fln_turnout *t, uint32_t nr_faults);

enum fln_density_seen fln_turnout_of(const struct fln_turnout *t);

/* What the decisions about a block depend on. */
struct fln_block_case {
	enum fln_release option;    /* of the region; not FLN_RELEASE_DEFAULT */
	bool asked;                 /* fln_guest_release() is under way */
	bool large;                 /* one large folio, as far as the image knows */
	bool may_be_large;          /* that, or not begun; and filled on request */
	bool has_spare;             /* it may take memory beyond its filled pages */
	bool mapped;                /* all of its pages are mapped */
	bool has_entries;           /* some of its pages may be mapped */
	bool quiet;                 /* it had no new fault for FLN_QUIET_NS */
	bool control;               /* fln_block_is_control() */
	uint32_t nr_faults;         /* that it has had */
	uint32_t nr_filled;         /* pages, of a large folio */
	enum fln_density_seen seen; /* of the guest; at a fault SPARSE with FLN_ADVICE_RANDOM */
	uint32_t source_ns;         /* that the source takes for a page; 0: unknown */
};

/* A sweep finds the block whole: is it to be released? */
bool fln_policy_releases(const struct fln_block_case *c);

/*
 * A thread waits in the block, which is whole: release it, instead of mapping a window?  Not one of
 * large folios with entries of single pages: a sweep joins those of many blocks at once.
 */
bool fln_policy_releases_at_fault(const struct fln_block_case *c);

/* A fault's pages are being filled: have the rest of the block filled after them? */
bool fln_policy_fills_rest(const struct fln_block_case *c);

/* Does a fault map FLN_CONTROL_PAGES only, because the block is observed, or soon released? */
bool fln_policy_maps_little(const struct fln_block_case *c);

/*
 * The block is not whole: give back what its large folio takes beyond the filled pages?  Asked
 * where such memory is above its bound.
 */
bool fln_policy_trims(const struct fln_block_case *c);

/* The option that holds, of a region's and its guest's. */
enum fln_release fln_release_option(enum fln_release region, enum fln_release guest);

#endif
