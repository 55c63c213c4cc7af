/* SPDX-License-Identifier: MIT */
/*
 * The mapping of a region: made, or taken over from the caller, and given back.
 */
#ifndef FLN_ENGINE_LIFE_REGION_MAPPING_H
#define FLN_ENGINE_LIFE_REGION_MAPPING_H

#include <stdbool.h>
#include <stdint.h>

struct fln_region;

/* All require the guest's turn.  Only fln_region_unmap() accepts a foreign region. */

/* Make a PROT_NONE mapping, and set r->addr.  Return: 0; -EPERM, -EAGAIN, -ENOMEM. */
int fln_region_map(struct fln_region *r);

/*
 * Take over the caller's mapping at r->addr: check that it maps the image and is registered with
 * no other userfaultfd, and empty its page tables.  Return: 0; -EINVAL, -EBUSY, -ENOMEM.
 */
int fln_region_take_over(struct fln_region *r);

/* Keep the mapping from forked children (MADV_DONTFORK).  Return: 0; -errno. */
int fln_region_keep_from_children(struct fln_region *r);

/* Map the image over what an earlier region's end has left in the caller's mapping; undo that. */
int fln_region_restore(struct fln_region *r);
void fln_region_undo_restore(struct fln_region *r);

/* Make the mapping accessible.  Requires: it is registered. */
int fln_region_allow(struct fln_region *r);

/* Unmap it, or hand it back to the caller.  Requires: no part of it is registered. */
void fln_region_unmap(struct fln_region *r);

/* Set the error of registering stripe @nr at @addr.  Return: -@err. */
int fln_region_register_error(const struct fln_region *r, int err, uint64_t addr, uint64_t nr);

#endif
