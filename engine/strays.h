/* SPDX-License-Identifier: MIT */
/*
 * Memory that leaves the place where it is served: it is not followed, but made unreadable
 * (strays.c).
 */
#ifndef FLN_ENGINE_STRAYS_H
#define FLN_ENGINE_STRAYS_H

#include "base/page.h"
#include "engine/state/guest.h"

#include <stdbool.h>
#include <stdint.h>

/*
 * mremap() has moved [from, from + len_bytes) to @to: what of it was a region's is made
 * unreadable there, and the embedder told.  By the reader of the shard's events: its worker, or in
 * the guest's turn when it has none.  Not in a read section.
 */
void fln_stray_add(struct fln_shard *shard, uint64_t from, uint64_t to, uint64_t len_bytes);

/*
 * The end of the strays of a shard that no worker has: afterwards its userfaultfd may be closed,
 * unless it is to be kept open.  In the guest's turn.
 */
void fln_strays_close(struct fln_shard *shard);

/*
 * mremap() makes a mapping longer where it is, and tells nobody: what lies behind the region's end
 * in its last mapping is made unreadable.  Before anything else of the region is changed.
 */
void fln_region_deny_grown(struct fln_region *region);

/*
 * Try again what could not be made unreadable, as there were no descriptors or mappings.
 * True: nothing is left.  In the guest's turn.
 */
bool fln_strays_deny_again(struct fln_guest *guest);

/* What is left of it is not tried any more: the userfaultfds of it stay open. */
void fln_strays_give_up(struct fln_guest *guest);

/* Does something else lie at @addr than the region says? */
static inline bool fln_region_is_stray(const struct fln_region *r, uint64_t addr)
{
	uint32_t nr = atomic_load_explicit(&r->nr_strays, memory_order_acquire);

	for (uint32_t i = 0; i < nr; i++) {
		if (addr >= atomic_load_explicit(&r->strays[i].lo, memory_order_acquire) &&
		    addr < atomic_load_explicit(&r->strays[i].hi, memory_order_acquire))
			return true;
	}
	return false;
}

/* The pages of the block at @block_addr where it does. */
struct fln_mask fln_region_stray_pages(const struct fln_region *region, uint64_t block_addr);

/*
 * Events of a shard are read between these two, and those that move something are acted upon.
 * The thread that has called mremap() goes on when that is read: in context nothing is
 * believed meanwhile of what lies where.
 */
void fln_strays_reading_begin(struct fln_shard *shard);
void fln_strays_reading_end(struct fln_shard *shard);

/* In context: false: look again.  May be called in a signal handler. */
bool fln_strays_are_known(const struct fln_guest *guest);

/*
 * A foreign guest's process has forked, and @fd is the userfaultfd of its child.  By the reader
 * of the shard's events: its worker, or in the guest's turn when it has none.
 */
void fln_child_forked(struct fln_guest *guest, int fd);

/*
 * Make what is missing in such children unreadable, and close their userfaultfds.  Those
 * for which that cannot be done stay open until a later call finds that the child has ended.
 * In the guest's turn.
 */
void fln_children_close(struct fln_guest *guest);

#endif
