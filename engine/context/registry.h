/* SPDX-License-Identifier: MIT */
/*
 * The in-context regions of the process, by address, for lookups in signal handlers.
 */
#ifndef FLN_ENGINE_CONTEXT_REGISTRY_H
#define FLN_ENGINE_CONTEXT_REGISTRY_H

#include <stdbool.h>
#include <stdint.h>

struct fln_region;

/*
 * Make a region findable, and undo that.  Both wait for a grace period; after
 * fln_context_leave_region() no thread is using the region in fln_resolve().
 * Return: 0; -EEXIST if it overlaps another one; -ENOMEM.
 */
int fln_context_enter_region(struct fln_region *region);
void fln_context_leave_region(struct fln_region *region);

/* The in-context region at @addr, of any guest, or NULL.  RCU read lock held; async-signal-safe. */
struct fln_region *fln_context_find(uint64_t addr);

/* How many regions have been removed so far.  Async-signal-safe. */
uint64_t fln_context_nr_left(void);

#endif
