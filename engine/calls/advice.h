/* SPDX-License-Identifier: MIT */
/*
 * Ranges of a guest, seen from inside: what was advised, what is locked, streams
 * that are read ahead of, and discards of our own.
 */
#ifndef FLN_ENGINE_CALLS_ADVICE_H
#define FLN_ENGINE_CALLS_ADVICE_H

#include <faultlane/advice.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct fln_region;

/*
 * A region goes: nothing is advised or locked there any more.  In the guest's turn, or at its
 * destruction.
 */
void fln_advised_forget(struct fln_region *region);

#endif
