/* SPDX-License-Identifier: MIT */
/*
 * The window policy: how many pages one fault resolves.
 *
 * Nobody can know whether a block of 2 MiB will be touched once or all over.
 * What can be known is how often it has faulted so far.  The first fault maps
 * little, so that memory touched here and there costs little; each further fault
 * maps twice as much, so that memory touched densely is soon mapped whole.  What
 * was spent on mapping stays in proportion to what was spent on faults: then the
 * total is within a factor of two of the better of "one page" and "all of it".
 *
 * Windows are aligned to their size, lie in one block, and hold the fault.
 * Pure arithmetic.
 */
#ifndef FLN_ENGINE_WINDOW_H
#define FLN_ENGINE_WINDOW_H

#include <stdint.h>

struct fln_window_policy {
	uint32_t first; /* pages, a power of two */
	uint32_t max;   /* pages, a power of two, at least first */
};

struct fln_window {
	uint32_t lo, hi; /* pages of the block, [lo, hi) */
};

/* Fill in defaults for zeros.  Return: 0; -EINVAL with a sentence. */
int fln_window_policy_init(struct fln_window_policy *p, uint32_t first, uint32_t max);

/*
 * @first, or, where it is 0, what suits vCPUs of KVM (FLN_GUEST_F_KVM).  A fault of
 * theirs is an exit, a fault of the kernel's on their behalf, two switches and an entry,
 * worth the mapping of several hundred pages: by the rule above the first window is larger.
 */
uint32_t fln_window_first_kvm(uint32_t first, uint32_t max);

/*
 * The window for a fault on @page (of its block, 0 to 511), when the block has
 * had @nr_faults faults before this one.
 */
struct fln_window fln_window_for(const struct fln_window_policy *p, uint32_t nr_faults,
				 uint32_t page);

#endif
