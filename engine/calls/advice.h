/* SPDX-License-Identifier: MIT */
/*
 * What advice.c offers to the end of a region.  The data is in engine/state/advised.h.
 */
#ifndef FLN_ENGINE_CALLS_ADVICE_H
#define FLN_ENGINE_CALLS_ADVICE_H

#include <faultlane/advice.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct fln_region;

/*
 * Drop the advice for a region that is going, and unlock it.  Waits for a grace period.  Requires
 * the guest's turn, or that the guest is being destroyed.
 */
void fln_advised_forget(struct fln_region *region);

#endif
