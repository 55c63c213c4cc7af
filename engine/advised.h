/* SPDX-License-Identifier: MIT */
/*
 * What faults look up of a guest's ranges: advice, and whether a discard is one of our
 * own.
 */
#ifndef FLN_ENGINE_ADVISED_H
#define FLN_ENGINE_ADVISED_H

#include <stdbool.h>
#include <stdint.h>

struct fln_guest;
struct fln_range;

/*
 * advice.c: what was said of @addr, and where that ends.  RCU read lock held.
 * NULL: nothing, or FLN_ADVICE_NORMAL.
 */
const struct fln_range *fln_advice_at(const struct fln_guest *guest, uint64_t addr);

/*
 * events.c asks: has a discard of our own caused the REMOVE of [start, end)?  Each
 * is told of once: what comes a second time is somebody else's.
 */
bool fln_quiet_takes(struct fln_guest *guest, uint64_t start, uint64_t end);

void fln_advised_deinit(struct fln_guest *guest);

#endif
