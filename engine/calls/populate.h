/* SPDX-License-Identifier: MIT */
/*
 * fln_guest_populate() and locked ranges: the caller's side of a job.
 */
#ifndef FLN_ENGINE_CALLS_POPULATE_H
#define FLN_ENGINE_CALLS_POPULATE_H

#include <stdbool.h>
#include <stdint.h>

struct fln_region;

/* Unlock what is locked of a region.  As fln_advised_forget(). */
void fln_locked_forget(struct fln_region *region);

#endif
