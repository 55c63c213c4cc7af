/* SPDX-License-Identifier: MIT */
/*
 * What is mapped where in this process, by /proc/self/maps.
 *
 * Reads a file, so its calls may block and need a free descriptor; not in signal handlers.  A
 * consistent answer requires that no other thread changes these mappings meanwhile.
 */
#ifndef FLN_ENGINE_MAPPING_H
#define FLN_ENGINE_MAPPING_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct fln_mapping_due;
struct fln_region;

/* The VMAs of the region's range that map its image.  0: /proc/self/maps cannot be read. */
uint64_t fln_mapping_count(const struct fln_region *region);

/* Called for a piece of a region's range; @moved: how far mremap() has moved it. */
typedef int (*fln_mapping_fn)(struct fln_region *region, uint64_t addr, uint64_t len_bytes,
			      uint64_t moved);

/*
 * Check that all of the region maps its image, shared or private as the region is, or is a
 * placeholder that a closed region has left there (engine/vacant.h).  Return: 0; -EINVAL, and the
 * error says what is there.
 */
int fln_mapping_check(const struct fln_region *region);

/*
 * Has the embedder set MADV_DONTFORK on any of the region?  Only smaps says so, at the cost of a
 * walk of all page tables: with more than 256 MiB resident it is not read, and the answer is true,
 * the safe one, as the region stays out of children.
 */
bool fln_mapping_is_kept_from_children(const struct fln_region *region);

/*
 * Call @fn for each piece of [start, end) that still maps the region's image at the offset that is
 * due there; @moved: how far mremap() has moved it.  If /proc/self/maps cannot be read, once for
 * all of it.  Return: the first result of @fn that was not 0; or 0.
 */
int fln_mapping_each(struct fln_region *region, uint64_t start, uint64_t end, uint64_t moved,
		     fln_mapping_fn fn);

/* The same; if /proc/self/maps cannot be read, @fn is not called.  Return: also -errno of that. */
int fln_mapping_each_seen(struct fln_region *region, uint64_t start, uint64_t end, uint64_t moved,
			  fln_mapping_fn fn);

/*
 * The same for the pieces of the region, at their own place, that are PROT_NONE.  If
 * /proc/self/maps cannot be read @fn is not called; return 0.
 */
int fln_mapping_each_denied(struct fln_region *region, fln_mapping_fn fn);

/* The same for placeholders that a closed region has left (engine/vacant.h). */
int fln_mapping_each_left(struct fln_region *region, fln_mapping_fn fn);

/* What a mapping of the region looks like that mremap() has moved by @moved. */
struct fln_mapping_due fln_mapping_due(const struct fln_region *region, uint64_t moved);

/*
 * Make the mappings in [lo, hi) that are as @due says PROT_NONE; so, too, what their last VMA has
 * beyond @hi, up to @limit: mremap() may have grown it.  @cut: that part may be a VMA of its own by
 * now, because an earlier call has split it.  Return: 0; -errno: /proc/self/maps cannot be read, or
 * some of it is still accessible.
 */
int fln_mapping_deny(const struct fln_mapping_due *due, uint64_t lo, uint64_t hi, uint64_t limit,
		     bool cut);

/* How many more VMAs vm.max_map_count lets this process have; 0: unknown, or none. */
uint64_t fln_mapping_nr_left(void);

/*
 * Make those mappings of the region's image readable and writable that an earlier region's end has
 * left PROT_NONE.  Return: 0 or -errno.
 */
int fln_mapping_allow(struct fln_region *region);

/*
 * Call @fn for each piece of the region's range that this library has mapped: of the image, or a
 * placeholder for it.  Each piece is passed once, and not looked at again: as soon as @fn has
 * unmapped it any thread may map something else there.
 */
void fln_mapping_each_of_ours(struct fln_region *region, fln_mapping_fn fn);

#endif
