/* SPDX-License-Identifier: MIT */
/* Collapses pages of an image into large ones, behind the engine. */
#include "stress/collapse.h"

#include "stress/images.h"
#include "stress/stress.h"

#include <sys/mman.h>

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

/*
 * Through a separate mapping: the guests' mappings lose their page-table entries and fault
 * again.  Never through a guest's own mapping: there the kernel would map all pages of the
 * cache, filled or not, without an event.
 */
bool collapse_elsewhere(struct stress *s, uint64_t page)
{
	char *room = mmap(NULL, 2 * HUGE_BYTES, PROT_NONE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	char *at = (char *)(((uintptr_t)room + HUGE_BYTES - 1) & ~(uintptr_t)(HUGE_BYTES - 1));
	const struct segment *g = layout_at(&s->layout, page);
	uint64_t block = g ? layout_offset(g, page) / HUGE_BYTES : 0;
	bool done;

	if (room == MAP_FAILED)
		return false;
	done = g &&
	       mmap(at, HUGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
		    fln_image_memfd(images_of(s, g)), (off_t)(block * HUGE_BYTES)) != MAP_FAILED &&
	       madvise(at, HUGE_BYTES, MADV_DONTFORK) == 0 &&
	       madvise(at, HUGE_BYTES, MADV_COLLAPSE) == 0;
	(void)munmap(room, 2 * HUGE_BYTES);
	return done;
}
