/* SPDX-License-Identifier: MIT */
/*
 * What populate.c offers to the end of a region.
 */
#ifndef FLN_ENGINE_CALLS_POPULATE_H
#define FLN_ENGINE_CALLS_POPULATE_H

#include <stdbool.h>
#include <stdint.h>

struct fln_region;

/* Unlock the locked ranges of a region.  Requires the same as fln_advised_forget(). */
void fln_locked_forget(struct fln_region *region);

#endif
