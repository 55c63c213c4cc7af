/* SPDX-License-Identifier: MIT */
/*
 * Lists of ranges: sorted, without overlaps, and copied to be changed.
 */
#ifndef FLN_ENGINE_RANGES_H
#define FLN_ENGINE_RANGES_H

#include <stdbool.h>
#include <stdint.h>

struct fln_guest;
struct fln_range;
struct fln_ranges;

/* Is [addr, addr + len) the guest's, without a gap?  Return: 0; -EINVAL. */
int fln_range_check(struct fln_guest *guest, uint64_t addr, uint64_t len_bytes);

/*
 * A copy of @old (may be NULL) in which [addr, end) is @what; 0: nothing.
 * NULL: no memory.  fln_ranges_free() takes NULL.
 */
struct fln_ranges *fln_ranges_with(struct fln_guest *guest, const struct fln_ranges *old,
				   uint64_t addr, uint64_t end, uint32_t what);
void fln_ranges_free(struct fln_guest *guest, struct fln_ranges *ranges);
/* The first range that ends above @addr, or NULL. */
const struct fln_range *fln_ranges_next(const struct fln_ranges *ranges, uint64_t addr);

#endif
