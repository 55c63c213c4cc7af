/* SPDX-License-Identifier: MIT */
/* The window policy; the reasons are in window.h. */
#include "engine/window.h"

#include "base/error.h"
#include "base/page.h"

#include <errno.h>

/* Measured defaults (docs/ARCHITECTURE.md): pages that a first fault maps, and any at most. */
#define DEFAULT_FIRST 8u
#define DEFAULT_MAX FLN_BLOCK_PAGES
#define DEFAULT_FIRST_KVM 256u
#define MAX_DOUBLINGS 9u /* from one page to a block */

int fln_window_policy_init(struct fln_window_policy *p, uint32_t first, uint32_t max)
{
	p->max = max ? max : DEFAULT_MAX;
	p->first = first ? first : DEFAULT_FIRST;
	if (!first && p->first > p->max)
		p->first = p->max;
	if (!fln_is_pow2(p->max) || p->max > FLN_BLOCK_PAGES)
		return fln_fail(EINVAL, "window_max is %u pages; use a power of two, 1 to %u",
				p->max, FLN_BLOCK_PAGES);
	if (!fln_is_pow2(p->first) || p->first > p->max)
		return fln_fail(EINVAL, "window_first is %u pages; use a power of two, 1 to %u",
				p->first, p->max);
	return 0;
}

uint32_t fln_window_first_kvm(uint32_t first, uint32_t max)
{
	if (first)
		return first;
	return max && max < DEFAULT_FIRST_KVM ? max : DEFAULT_FIRST_KVM;
}

struct fln_window fln_window_for(const struct fln_window_policy *p, uint32_t nr_faults,
				 uint32_t page)
{
	/* Doubling: the next window is about as large as all of the block's before it together. */
	uint32_t pages = nr_faults < MAX_DOUBLINGS ? p->first << nr_faults : p->max;
	struct fln_window w;

	FLN_DEBUG_ASSERT(page < FLN_BLOCK_PAGES);
	if (pages > p->max)
		pages = p->max;
	w.lo = (uint32_t)fln_align_down(page, pages);
	w.hi = w.lo + pages;
	return w;
}
