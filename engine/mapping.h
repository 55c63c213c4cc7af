/* SPDX-License-Identifier: MIT */
/*
 * What is mapped where in this process, by /proc/self/maps.
 */
#ifndef FLN_ENGINE_MAPPING_H
#define FLN_ENGINE_MAPPING_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct fln_mapping_due;
struct fln_region;

typedef int (*fln_mapping_fn)(struct fln_region *region, uint64_t addr, uint64_t len_bytes,
			      uint64_t moved);

/*
 * Is all of the region a mapping of its image, shared or private as it
 * should be, or what the end of a region has left in its place?  Return: 0; or
 * -EINVAL with the sentence that says what is there.
 */
int fln_mapping_check(const struct fln_region *region);

/*
 * Has the embedder kept any of the region from children (MADV_DONTFORK)?  Only smaps tells,
 * and takes a walk of all page tables: a process with more than 256 MiB mapped is not asked,
 * and the answer is true: what is kept from children stays so.
 */
bool fln_mapping_is_kept_from_children(const struct fln_region *region);

/*
 * Call @fn for each piece of [start, end) that is still a mapping of the region's
 * image at its place.  @moved: how far mremap() has carried it.  Return: what the
 * first call of @fn returned that did not return 0.
 */
int fln_mapping_each(struct fln_region *region, uint64_t start, uint64_t end, uint64_t moved,
		     fln_mapping_fn fn);

/* The same; nothing is called, and -errno returned, where /proc/self/maps cannot be read. */
int fln_mapping_each_seen(struct fln_region *region, uint64_t start, uint64_t end, uint64_t moved,
			  fln_mapping_fn fn);

/*
 * Of those pieces at their home, what has no access: what deny() has taken it from.  Here and
 * in the next nothing is called, and 0 returned, where /proc/self/maps cannot be read.
 */
int fln_mapping_each_denied(struct fln_region *region, fln_mapping_fn fn);

/* The same for what the end of a region has put in the place of its image (engine/vacant.h). */
int fln_mapping_each_left(struct fln_region *region, fln_mapping_fn fn);

/* What is due in the region's range; @moved: how far mremap() has carried it. */
struct fln_mapping_due fln_mapping_due(const struct fln_region *region, uint64_t moved);

/*
 * Take the access away from what is due in [lo, hi) and still mapped there, and from what the
 * mapping that has the page before @hi has behind it, up to @limit.  @cut: that may be a
 * mapping of its own by now.  Return: 0; or -errno: /proc/self/maps cannot be read, or something
 * is still accessible.
 */
int fln_mapping_deny(const struct fln_mapping_due *due, uint64_t lo, uint64_t hi, uint64_t limit,
		     bool cut);

/* How many mappings this process may still make, by vm.max_map_count; 0: unknown. */
uint64_t fln_mapping_nr_left(void);

/*
 * Give the access back to what is a mapping of the region's image and has none, as the end of
 * an earlier region has left it.  Return: 0 or -errno.
 */
int fln_mapping_allow(struct fln_region *region);

/*
 * Call @fn for each piece of the region's range that lies there by our doing: mappings of the
 * image, and what the end of the region has put in their place.  Each once, and looked for
 * once: what @fn unmaps is any thread's to map from then on, with anonymous memory, too.
 */
void fln_mapping_each_of_ours(struct fln_region *region, fln_mapping_fn fn);

#endif
