/* SPDX-License-Identifier: MIT */
/*
 * Walks the mappings (VMAs) of this process in the order of their addresses, by /proc/self/maps.
 *
 * Reads a file, so its calls may block and need a free descriptor; not in signal handlers.
 */
#ifndef FLN_ENGINE_MAPS_H
#define FLN_ENGINE_MAPS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

struct fln_map {
	uint64_t lo, hi, offset, inode;
	dev_t device;
	bool shared, accessible;
	bool vacant; /* the empty file of engine/vacant.h */
};

struct fln_maps {
	FILE *file;
	uint64_t at; /* mappings that end at or below it have been passed */
	uint32_t nr_queries;
	bool as_text; /* set by a caller that wants all mappings, which is cheaper as text */
};

/*
 * Begin with the first mapping that ends above @addr.  Return: 0; -errno: /proc/self/maps cannot
 * be opened, and there is nothing to close.
 */
int fln_maps_open(struct fln_maps *maps, uint64_t addr);

/*
 * Go on to the next mapping.  If others map and unmap meanwhile, what existed all the time is
 * found.  False: there is none.
 */
bool fln_maps_next(struct fln_maps *maps, struct fln_map *m);

void fln_maps_close(struct fln_maps *maps);

/* Take apart the first line of a mapping in maps or smaps.  False: it is another line of smaps. */
bool fln_maps_parse_line(const char *line, struct fln_map *m);

#endif
