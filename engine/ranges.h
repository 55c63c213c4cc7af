/* SPDX-License-Identifier: MIT */
/*
 * Sorted lists of ranges without overlaps, changed by making a changed copy.
 *
 * Who may read or replace a list is up to its owner (engine/state/advised.h).
 */
#ifndef FLN_ENGINE_RANGES_H
#define FLN_ENGINE_RANGES_H

#include <stdbool.h>
#include <stdint.h>

struct fln_guest;
struct fln_range;
struct fln_ranges;

/* Check that regions of the guest cover [addr, addr + len_bytes).  Return: 0; -EINVAL. */
int fln_range_check(struct fln_guest *guest, uint64_t addr, uint64_t len_bytes);

/*
 * A copy of @old in which [addr, end) is @what, or in no range if @what is 0.  @old may be NULL: an
 * empty list.  Returns NULL if there is no memory.
 */
struct fln_ranges *fln_ranges_with(struct fln_guest *guest, const struct fln_ranges *old,
				   uint64_t addr, uint64_t end, uint32_t what);

/* @ranges may be NULL. */
void fln_ranges_free(struct fln_guest *guest, struct fln_ranges *ranges);

/* The first range that ends above @addr, or NULL.  @ranges may be NULL. */
const struct fln_range *fln_ranges_next(const struct fln_ranges *ranges, uint64_t addr);

#endif
