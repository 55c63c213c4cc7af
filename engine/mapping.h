/* SPDX-License-Identifier: MIT */
/*
 * What is mapped where in this process, by /proc/self/maps.
 */
#ifndef FLN_ENGINE_MAPPING_H
#define FLN_ENGINE_MAPPING_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct fln_region;

typedef int (*fln_mapping_fn)(struct fln_region *region, uint64_t addr, uint64_t len_bytes,
			      uint64_t moved);

/*
 * Is all of the region a mapping of its image, shared or private as it
 * should be?  Return: 0; or
 * -EINVAL with the sentence that says what is there.
 */
int fln_mapping_check(const struct fln_region *region);

/* Has the embedder kept any of the region from children (MADV_DONTFORK)? */
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
 * Call @fn for what the mapping that has the page before @end, if it is the region's own there,
 * has behind @end, up to @limit.  Return: as @fn; 0: nothing; -errno: /proc/self/maps cannot be
 * read.
 */
int fln_mapping_tail(struct fln_region *region, uint64_t end, uint64_t moved, uint64_t limit,
		     fln_mapping_fn fn);

/*
 * Give the access back to what is a mapping of the region's image and has none, as the end of
 * an earlier region has left it.  Return: 0 or -errno.
 */
int fln_mapping_allow(struct fln_region *region);

/* The next private anonymous mapping of @maps, /proc/self/maps.  False: there is none. */
bool fln_mapping_next_anonymous(FILE *maps, uint64_t *lo, uint64_t *hi);

#endif
