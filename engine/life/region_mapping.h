/* SPDX-License-Identifier: MIT */
/*
 * The mapping of a region: made, or taken over from the caller, and given back.
 */
#ifndef FLN_ENGINE_LIFE_REGION_MAPPING_H
#define FLN_ENGINE_LIFE_REGION_MAPPING_H

#include <stdbool.h>
#include <stdint.h>

struct fln_region;

/* All in the guest's turn.  Not for foreign regions, unless they are named. */

/* Make a mapping, without access; sets r->addr.  Return: 0; -EPERM, -EAGAIN, -ENOMEM. */
int fln_region_map(struct fln_region *r);

/*
 * Take over the caller's mapping at r->addr: it is one of the image, no other userfaultfd's,
 * and empty from here on.  Return: 0; -EINVAL, -EBUSY, -ENOMEM.
 */
int fln_region_take_over(struct fln_region *r);

/* Forked children do not get it.  Return: 0; -errno. */
int fln_region_keep_from_children(struct fln_region *r);

/* The image in place of what an earlier region's end has left in the caller's mapping. */
int fln_region_restore(struct fln_region *r);
void fln_region_undo_restore(struct fln_region *r);

/* It is registered: from here on threads may touch it. */
int fln_region_allow(struct fln_region *r);

/* Give it back.  Nothing of it is registered any more; nothing is done for a foreign region. */
void fln_region_unmap(struct fln_region *r);

/* What the kernel has said of registering stripe @nr, at @addr, in a sentence.  Return: -@err. */
int fln_region_register_error(const struct fln_region *r, int err, uint64_t addr, uint64_t nr);

#endif
