/* SPDX-License-Identifier: MIT */
/*
 * Strays: memory of regions that mremap() or fork() has carried elsewhere.  It is not served
 * there, but made inaccessible (strays.c).
 */
#ifndef FLN_ENGINE_STRAYS_H
#define FLN_ENGINE_STRAYS_H

#include "base/page.h"
#include "engine/state/guest.h"

#include <stdbool.h>
#include <stdint.h>

/*
 * mremap() has moved [from, from + len_bytes) to @to: make the part of it that was in regions
 * inaccessible there, and post FLN_EVENT_MEMORY_MOVED.  By the thread that reads the shard's
 * events: its worker or, if it has none, one that has the guest's turn.  Not in a read section.
 */
void fln_stray_add(struct fln_shard *shard, uint64_t from, uint64_t to, uint64_t len_bytes);

/*
 * Poison the strays of a detached shard of a foreign guest, so that its userfaultfd may be closed.
 * Sets keep_open if some could not be poisoned.  In the guest's turn; may block for 200 ms a stray.
 */
void fln_strays_close(struct fln_shard *shard);

/*
 * mremap() can grow a mapping in place, and no event reports that: make what the region's last VMA
 * has beyond the region's end inaccessible.  To be called before the closer changes the region's
 * mappings, in the guest's turn.
 */
void fln_region_deny_grown(struct fln_region *region);

/*
 * Retry to make strays inaccessible for which there were no descriptors or VMAs left.  True:
 * nothing is left to do.  In the guest's turn.
 */
bool fln_strays_deny_again(struct fln_guest *guest);

/* Stop retrying: the userfaultfds of what is left stay open.  In the guest's turn. */
void fln_strays_give_up(struct fln_guest *guest);

/* Has mremap() moved other memory onto the region at @addr?  Async-signal-safe. */
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

/* The pages of the block at @block_addr for which that is so. */
struct fln_mask fln_region_stray_pages(const struct fln_region *region, uint64_t block_addr);

/*
 * The reader of an in-context shard's events calls these before it reads and after it has acted
 * upon UFFD_EVENT_REMAP.  The thread that called mremap() resumes as soon as the event is read, so
 * in between threads that resolve their own faults must not trust the marks of strays.
 */
void fln_strays_reading_begin(struct fln_shard *shard);
void fln_strays_reading_end(struct fln_shard *shard);

/* May the marks of strays be trusted?  Spins briefly; false: try again.  Async-signal-safe. */
bool fln_strays_are_known(const struct fln_guest *guest);

/*
 * A foreign guest's process has forked; @fd is its child's userfaultfd.  Only notes it, and calls
 * the guard.  By the thread that reads the shard's events, as fln_stray_add().
 */
void fln_child_forked(struct fln_guest *guest, int fd);

/*
 * Poison the pages that such children lack, and close their userfaultfds.  A userfaultfd for which
 * that fails stays open until a later call succeeds or finds that the child has ended.  In the
 * guest's turn; takes as long as the guest is large.
 */
void fln_children_close(struct fln_guest *guest);

#endif
