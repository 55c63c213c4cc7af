/* SPDX-License-Identifier: MIT */
/*
 * Closing a region: failing closed (I6).
 */
#ifndef FLN_ENGINE_LIFE_CLOSING_H
#define FLN_ENGINE_LIFE_CLOSING_H

#include <stdbool.h>
#include <stdint.h>

struct fln_guest;
struct fln_region;

/*
 * Make what was never filled unreadable, and tell workers to leave
 * the region's faults alone.  Afterwards its userfaultfds may be closed or the
 * range unregistered: nobody can read zeros where contents are due (I6).
 * Return: 0; -EIO when that could not be done: then they may not.
 * In the guest's turn, as all of closing.c.
 */
int fln_region_close(struct fln_region *region);

/*
 * The same once more for what mremap() has moved while the region was being
 * closed, and for events that nobody had read.  No worker has the guest's shards.
 */
int fln_region_close_rest(struct fln_region *region);

/*
 * Make unreadable what mremap() has moved and could not be reached so far.  Descriptors and
 * mappings that have run out are waited for.  After all regions; no worker has the guest's shards.
 */
void fln_guest_close_strays(struct fln_guest *guest);

/* Take a closed region's ranges from their userfaultfds, and wake the threads that wait there. */
void fln_region_unregister(struct fln_region *region);

#endif
