/* SPDX-License-Identifier: MIT */
/*
 * All in-context regions of the process, by address.
 */
#ifndef FLN_ENGINE_CONTEXT_REGISTRY_H
#define FLN_ENGINE_CONTEXT_REGISTRY_H

#include <stdbool.h>
#include <stdint.h>

struct fln_region;

/* Let threads find a region, or not any more; waits for readers. */
int fln_context_enter_region(struct fln_region *region);
void fln_context_leave_region(struct fln_region *region);

/* The in-context region at @addr, of any guest, or NULL.  RCU read lock held. */
struct fln_region *fln_context_find(uint64_t addr);

/* How many regions have left so far. */
uint64_t fln_context_nr_left(void);

#endif
