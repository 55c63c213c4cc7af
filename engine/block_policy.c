/* SPDX-License-Identifier: MIT */
/*
 * What is done with a block; block_policy.h has the reasons.
 *
 * Tested by unit.block_policy.
 */
#include "engine/block_policy.h"

#include "base/error.h"
#include "base/hash.h"

#define NR_PARTS (FLN_BLOCK_PAGES / FLN_CONTROL_PAGES)
/*
 * Parts of a dense control.  Where one page in four is touched at random, the break-even, 99 % of
 * the parts are; where one in eight is, 88 %.
 */
#define DENSE_PARTS 30u
#define MIN_CONTROLS 2u  /* fewer prove nothing */
#define MAX_CONTROLS 64u /* both counts are halved then */
/* A source that takes longer is not fast: the rest of a block would keep a filler for 1 ms. */
#define FAST_SOURCE_NS 2000u

bool fln_block_is_control(uint64_t block_addr)
{
	/* A hash, because a regular choice could coincide with the guest's own pattern. */
	return (fln_hash(block_addr >> FLN_BLOCK_SHIFT) >> 40) % FLN_CONTROL_BLOCKS == 0;
}

static uint32_t nr_touched_parts(const struct fln_mask *present)
{
	uint32_t nr = 0;

	for (uint32_t lo = 0; lo < FLN_BLOCK_PAGES; lo += FLN_CONTROL_PAGES)
		nr += fln_mask_next_set(present, lo) < lo + FLN_CONTROL_PAGES;
	return nr;
}

static void halve(_Atomic uint32_t *nr)
{
	atomic_store_explicit(nr, atomic_load_explicit(nr, memory_order_relaxed) / 2,
			      memory_order_relaxed);
}

/* Two workers at a time may lose a count of each other, which changes no decision for long. */
static void note(struct fln_turnout *t, bool dense)
{
	_Atomic uint32_t *nr = dense ? &t->nr_dense : &t->nr_sparse;

	if (atomic_fetch_add_explicit(nr, 1, memory_order_relaxed) + 1 < MAX_CONTROLS)
		return;
	halve(&t->nr_dense);
	halve(&t->nr_sparse);
}

void fln_turnout_note(struct fln_turnout *t, const struct fln_mask *present)
{
	note(t, nr_touched_parts(present) >= DENSE_PARTS);
}

void fln_turnout_note_mapped(struct fln_turnout *t, uint32_t nr_faults)
{
	if (nr_faults >= DENSE_PARTS)
		note(t, true);
}

enum fln_density_seen fln_turnout_of(const struct fln_turnout *t)
{
	uint32_t dense = atomic_load_explicit(&t->nr_dense, memory_order_relaxed);
	uint32_t sparse = atomic_load_explicit(&t->nr_sparse, memory_order_relaxed);

	if (dense + sparse < MIN_CONTROLS)
		return FLN_SEEN_UNKNOWN;
	if (dense >= sparse * 3)
		return FLN_SEEN_DENSE;
	return sparse >= dense * 3 ? FLN_SEEN_SPARSE : FLN_SEEN_UNKNOWN;
}

bool fln_policy_releases(const struct fln_block_case *c)
{
	switch (c->option) {
	case FLN_RELEASE_AUTO:
		return c->asked || c->mapped || c->quiet || (c->large && !c->control) ||
		       (c->seen == FLN_SEEN_SPARSE && !c->control);
	case FLN_RELEASE_ON_CALL:
		return c->asked;
	default:
		return false;
	}
}

bool fln_policy_releases_at_fault(const struct fln_block_case *c)
{
	return c->option == FLN_RELEASE_AUTO && !c->control &&
	       (c->seen == FLN_SEEN_SPARSE || (c->large && !c->has_entries));
}

bool fln_policy_fills_rest(const struct fln_block_case *c)
{
	if (c->option != FLN_RELEASE_AUTO || !c->may_be_large || c->source_ns > FAST_SOURCE_NS ||
	    c->seen == FLN_SEEN_SPARSE)
		return false;
	return c->seen == FLN_SEEN_DENSE || c->nr_filled > 0;
}

bool fln_policy_maps_little(const struct fln_block_case *c)
{
	return c->option == FLN_RELEASE_AUTO &&
	       (c->control || (c->large && c->may_be_large && c->source_ns <= FAST_SOURCE_NS));
}

bool fln_policy_trims(const struct fln_block_case *c)
{
	return c->option == FLN_RELEASE_AUTO && c->has_spare && c->quiet;
}

enum fln_release fln_release_option(enum fln_release region, enum fln_release guest)
{
	FLN_ASSERT(region < FLN_RELEASE_NR && guest < FLN_RELEASE_NR);
	if (region != FLN_RELEASE_DEFAULT)
		return region;
	return guest != FLN_RELEASE_DEFAULT ? guest : FLN_RELEASE_ON_CALL;
}
