/* SPDX-License-Identifier: MIT */
/*
 * What is mapped in a region's range.
 *
 * The embedder may unmap parts of a region and map something else there.  Code that is about to
 * change a region's mappings asks here first which of them still map the region's image.
 */
#include "engine/mapping.h"

#include "base/error.h"
#include "base/fd.h"
#include "base/page.h"
#include "engine/maps.h"
#include "engine/state/engine.h"
#include "engine/state/guest.h"
#include "engine/vacant.h"
#include "sources/image.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* Does @addr, in @m, have the file offset due at @home, and is it shared as the region is? */
static bool is_at_home(const struct fln_region *r, const struct fln_map *m, uint64_t addr,
		       uint64_t home)
{
	return m->shared != r->is_private &&
	       m->offset + (addr - m->lo) == fln_pages_to_bytes(r->image_page) + (home - r->addr);
}

/* Does @m map the region's image, with the page due for @home at @addr? */
static bool is_own(const struct fln_region *r, const struct fln_map *m, uint64_t addr,
		   uint64_t home)
{
	return m->inode == r->image->inode && m->device == r->image->device &&
	       is_at_home(r, m, addr, home);
}

static bool is_zeros(const struct fln_vacant *v, const struct fln_map *m)
{
	return v->zero_fd > 0 && m->inode == v->zero_inode && m->device == v->zero_device &&
	       !m->shared;
}

/* Is the mapping at @addr a placeholder that a closed region has left? */
static bool is_left(const struct fln_region *r, const struct fln_map *m, uint64_t addr,
		    uint64_t home)
{
	return (m->vacant || is_zeros(&r->guest->engine->vacant, m)) &&
	       is_at_home(r, m, addr, home);
}

int fln_mapping_check(const struct fln_region *r)
{
	const char *kind = r->is_private ? "private" : "shared";
	const char *flag = r->is_private ? "MAP_PRIVATE" : "MAP_SHARED";
	uint64_t at = r->addr, end = r->addr + r->len_bytes;
	struct fln_maps maps;
	struct fln_map m;
	int rc = 0;

	if (fln_maps_open(&maps, at) != 0)
		return 0; /* without /proc the kernel's own checks must suffice */
	while (rc == 0 && at < end && fln_maps_next(&maps, &m)) {
		if (m.lo > at)
			break;
		if (!is_own(r, &m, at, at) && !is_left(r, &m, at, at))
			rc = fln_fail(EINVAL,
				      "region: the mapping at 0x%" PRIx64 " is not a "
				      "%s mapping of image %s at its offset %" PRIu64
				      "; map fln_image_memfd() with %s, or change sharing",
				      at, kind, r->image->name,
				      fln_pages_to_bytes(r->image_page) + (at - r->addr), flag);
		at = m.hi;
	}
	fln_maps_close(&maps);
	if (rc == 0 && at < end)
		rc = fln_fail(EINVAL,
			      "region: nothing is mapped at 0x%" PRIx64 "; map "
			      "fln_image_memfd() with %s there, or give addr 0",
			      at, flag);
	return rc;
}

/* Reading smaps walks the page tables of all mappings: up to so many resident pages. */
#define SMAPS_MAX_PAGES (UINT64_C(1) << 16)

/* Resident pages of this process; UINT64_MAX: unknown. */
static uint64_t nr_resident(void)
{
	uint64_t resident = UINT64_MAX;

	return fln_fd_read_number("/proc/self/statm", 1, &resident) ? resident : UINT64_MAX;
}

bool fln_mapping_is_kept_from_children(const struct fln_region *r)
{
	bool kept = nr_resident() > SMAPS_MAX_PAGES;
	FILE *maps = kept ? NULL : fln_fd_fopen("/proc/self/smaps");
	struct fln_map m = { .hi = 0 };
	char line[512];

	while (maps && !kept && m.lo < r->addr + r->len_bytes && fgets(line, sizeof(line), maps)) {
		/* "VmFlags: rd wr sh …" is the last of a mapping's lines. */
		if (strncmp(line, "VmFlags:", 8) == 0)
			kept = m.hi > r->addr && m.lo < r->addr + r->len_bytes &&
			       strstr(line, " dc") != NULL;
		else
			(void)fln_maps_parse_line(line, &m);
	}
	if (maps)
		(void)fclose(maps);
	return kept;
}

typedef bool (*map_fn)(const struct fln_region *r, const struct fln_map *m, uint64_t addr,
		       uint64_t home);

/* As fln_mapping_each(), for the mappings that @is_one accepts.  Closes @maps. */
static int each_piece(struct fln_maps *maps, struct fln_region *r, uint64_t start, uint64_t end,
		      uint64_t moved, map_fn is_one, fln_mapping_fn fn)
{
	uint64_t lo = start, hi = start; /* the piece so far: adjacent lines are joined */
	struct fln_map m;
	int rc = 0, first_rc = 0;

	while (fln_maps_next(maps, &m) && m.lo < end) {
		uint64_t from = m.lo > start ? m.lo : start, to = m.hi < end ? m.hi : end;

		if (!is_one(r, &m, from, from - moved))
			continue;
		if (from > hi) {
			rc = hi > lo ? fn(r, lo, hi - lo, moved) : 0;
			first_rc = first_rc ? first_rc : rc;
			lo = from;
		}
		hi = to;
	}
	fln_maps_close(maps);
	rc = hi > lo ? fn(r, lo, hi - lo, moved) : 0;
	return first_rc ? first_rc : rc;
}

int fln_mapping_each(struct fln_region *r, uint64_t start, uint64_t end, uint64_t moved,
		     fln_mapping_fn fn)
{
	struct fln_maps maps;

	return fln_maps_open(&maps, start) == 0
		       ? each_piece(&maps, r, start, end, moved, is_own, fn)
		       : fn(r, start, end - start, moved);
}

int fln_mapping_each_seen(struct fln_region *r, uint64_t start, uint64_t end, uint64_t moved,
			  fln_mapping_fn fn)
{
	struct fln_maps maps;
	int rc = fln_maps_open(&maps, start);

	return rc ? rc : each_piece(&maps, r, start, end, moved, is_own, fn);
}

uint64_t fln_mapping_count(const struct fln_region *r)
{
	uint64_t end = r->addr + r->len_bytes, nr = 0;
	struct fln_maps maps;
	struct fln_map m;

	if (fln_maps_open(&maps, r->addr) != 0)
		return 0;
	while (fln_maps_next(&maps, &m) && m.lo < end) {
		uint64_t from = m.lo > r->addr ? m.lo : r->addr;

		nr += is_own(r, &m, from, from);
	}
	fln_maps_close(&maps);
	return nr;
}

/* For the pieces of the region at its own place; if the mappings cannot be read, for none. */
static int each_placed(struct fln_region *r, map_fn is_one, fln_mapping_fn fn)
{
	struct fln_maps maps;

	if (fln_maps_open(&maps, r->addr) != 0)
		return 0;
	return each_piece(&maps, r, r->addr, r->addr + r->len_bytes, 0, is_one, fn);
}

static bool is_denied(const struct fln_region *r, const struct fln_map *m, uint64_t addr,
		      uint64_t home)
{
	return !m->accessible && is_own(r, m, addr, home);
}

int fln_mapping_each_denied(struct fln_region *r, fln_mapping_fn fn)
{
	return each_placed(r, is_denied, fn);
}

int fln_mapping_each_left(struct fln_region *r, fln_mapping_fn fn)
{
	return each_placed(r, is_left, fn);
}

struct fln_mapping_due fln_mapping_due(const struct fln_region *r, uint64_t moved)
{
	return (struct fln_mapping_due){
		.inode = r->image->inode,
		.device = r->image->device,
		.offset_less_addr = fln_pages_to_bytes(r->image_page) - (r->addr + moved),
		.is_private = r->is_private,
	};
}

static bool is_due(const struct fln_mapping_due *due, const struct fln_map *m)
{
	return m->shared != due->is_private && m->inode == due->inode && m->device == due->device &&
	       m->offset - m->lo == due->offset_less_addr;
}

int fln_mapping_deny(const struct fln_mapping_due *due, uint64_t lo, uint64_t hi, uint64_t limit,
		     bool cut)
{
	struct fln_maps maps;
	struct fln_map m;
	int rc = fln_maps_open(&maps, lo);

	if (rc)
		return rc;
	while (fln_maps_next(&maps, &m) && m.lo < hi + cut) {
		uint64_t from = m.lo > lo ? m.lo : lo, to = m.hi;

		if (!is_due(due, &m))
			continue;
		if (to > hi)
			to = to < limit ? to : limit;
		if (from < to &&
		    mprotect((void *)(uintptr_t)from, (size_t)(to - from), PROT_NONE) != 0)
			rc = rc ? rc : -errno;
	}
	fln_maps_close(&maps);
	return rc;
}

uint64_t fln_mapping_nr_left(void)
{
	uint64_t max = 0, nr = 0;
	struct fln_maps maps;
	struct fln_map m;

	if (fln_maps_open(&maps, 0) != 0)
		return 0;
	maps.as_text = true;
	if (fln_fd_read_number("/proc/sys/vm/max_map_count", 0, &max)) {
		while (fln_maps_next(&maps, &m))
			nr++;
	}
	fln_maps_close(&maps);
	return max > nr ? max - nr : 0;
}

static int allow_piece(struct fln_region *r, uint64_t addr, uint64_t len_bytes, uint64_t moved)
{
	(void)r;
	(void)moved;
	return mprotect((void *)(uintptr_t)addr, (size_t)len_bytes, PROT_READ | PROT_WRITE) == 0
		       ? 0
		       : -errno;
}

int fln_mapping_allow(struct fln_region *r)
{
	return fln_mapping_each_denied(r, allow_piece);
}

static int by_addr(const void *a, const void *b)
{
	const struct fln_zeroed *x = a, *y = b;

	return x->addr < y->addr ? -1 : x->addr > y->addr;
}

/*
 * Call @fn for the parts of [lo, hi), which is anonymous memory, that the region's end has mapped
 * as zeros.  *next: the first of r->zeroed that may end above @lo.
 */
static void each_zeroed(struct fln_region *r, uint64_t lo, uint64_t hi, uint64_t *next,
			fln_mapping_fn fn)
{
	while (*next < r->nr_zeroed && r->zeroed[*next].end <= lo)
		(*next)++;
	for (uint64_t i = *next; i < r->nr_zeroed && r->zeroed[i].addr < hi; i++) {
		uint64_t from = r->zeroed[i].addr > lo ? r->zeroed[i].addr : lo;
		uint64_t to = r->zeroed[i].end < hi ? r->zeroed[i].end : hi;

		(void)fn(r, from, to - from, 0);
	}
}

void fln_mapping_each_of_ours(struct fln_region *r, fln_mapping_fn fn)
{
	uint64_t done = r->addr, end = r->addr + r->len_bytes, next = 0;
	struct fln_maps maps;
	struct fln_map m;

	if (fln_maps_open(&maps, r->addr) != 0) {
		(void)fn(r, r->addr, r->len_bytes, 0);
		return;
	}
	if (r->nr_zeroed)
		qsort(r->zeroed, (size_t)r->nr_zeroed, sizeof(*r->zeroed), by_addr);
	while (fln_maps_next(&maps, &m) && m.lo < end) {
		uint64_t from = m.lo > done ? m.lo : done, to = m.hi < end ? m.hi : end;

		if (to <= from)
			continue;
		if (is_own(r, &m, from, from) || is_left(r, &m, from, from))
			(void)fn(r, from, to - from, 0);
		else if (!m.inode && !m.device && !m.shared)
			each_zeroed(r, from, to, &next, fn);
		done = to;
	}
	fln_maps_close(&maps);
}
