/* SPDX-License-Identifier: MIT */
/*
 * The window policy: how many pages one fault resolves.
 *
 * Whether a block of 2 MiB will be touched once or all over cannot be known; how often it has
 * faulted so far is known.  The first fault maps few pages, so that sparsely touched memory
 * costs little; each further fault maps twice as many, so that densely touched memory is soon
 * mapped whole.  The cost of mapping stays in proportion to the cost of faults: the total is
 * within a factor of two of the better of "one page" and "the whole block".
 *
 * A window is aligned to its size, lies in one block, and contains the faulting page.
 * Pure functions.
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

/* Zero stands for the default.  Return: 0; -EINVAL. */
int fln_window_policy_init(struct fln_window_policy *p, uint32_t first, uint32_t max);

/*
 * @first or, if it is 0, the default for vCPUs of KVM (FLN_GUEST_F_KVM).  A vCPU's fault costs a
 * VM exit, a page fault that the kernel takes for it, two context switches and a VM entry, as
 * much as mapping several hundred pages: by the rule above its first window is larger.
 */
uint32_t fln_window_first_kvm(uint32_t first, uint32_t max);

/* The window for a fault on @page of its block, which has had @nr_faults faults before this one. */
struct fln_window fln_window_for(const struct fln_window_policy *p, uint32_t nr_faults,
				 uint32_t page);

#endif
