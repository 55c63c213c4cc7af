/* SPDX-License-Identifier: MIT */
/*
 * What workers look up about ranges of a guest: its advice, and whether a discard is one that
 * fln_guest_advise() has made itself.
 *
 * The owners of this state are in engine/state/advised.h.  Nothing here blocks.
 */
#ifndef FLN_ENGINE_ADVISED_H
#define FLN_ENGINE_ADVISED_H

#include <stdbool.h>
#include <stdint.h>

struct fln_guest;
struct fln_range;

/* The advised range that @addr lies in; NULL: FLN_ADVICE_NORMAL.  RCU read lock held. */
const struct fln_range *fln_advice_at(const struct fln_guest *guest, uint64_t addr);

/*
 * Was the REMOVE event of [start, end) caused by our own MADV_DONTNEED (struct fln_quiet)?  True
 * once for each page: a second event for it comes from a discard of the guest's.
 */
bool fln_quiet_takes(struct fln_guest *guest, uint64_t start, uint64_t end);

/* Free the guest's lists.  By the thread that destroys the guest. */
void fln_advised_deinit(struct fln_guest *guest);

#endif
