/* SPDX-License-Identifier: MIT */
/*
 * Closing a region: its unfilled pages become inaccessible before its userfaultfds go (I6).
 * All of it runs on the thread that holds the guest's turn, and may block for some 10 s.
 */
#ifndef FLN_ENGINE_LIFE_CLOSING_H
#define FLN_ENGINE_LIFE_CLOSING_H

#include <stdbool.h>
#include <stdint.h>

struct fln_guest;
struct fln_region;

/*
 * Make unfilled pages inaccessible, and have the workers leave the region's faults alone.
 * Afterwards the range may be unregistered and its userfaultfds closed: no thread can read zeros
 * where contents are due (I6).
 * Return: 0; -EIO if some unfilled page is still accessible: the userfaultfds must then stay
 * open, and the range registered.
 */
int fln_region_close(struct fln_region *region);

/*
 * Drain the events that are left, which also finds what mremap() has moved meanwhile.  If the
 * guest of a private or foreign region has discarded something, make unfilled pages inaccessible
 * once more.  Requires: the guest's shards are detached.  Return: as fln_region_close().
 */
int fln_region_close_rest(struct fln_region *region);

/*
 * Make memory inaccessible that mremap() has moved, where that has failed so far.  Retries while
 * the process is out of descriptors or VMAs.  Requires: every region is closed, and the guest's
 * shards are detached.
 */
void fln_guest_close_strays(struct fln_guest *guest);

/* Unregister a closed region from its userfaultfds, and wake all waiters. */
void fln_region_unregister(struct fln_region *region);

#endif
