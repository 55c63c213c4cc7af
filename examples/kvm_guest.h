/* SPDX-License-Identifier: MIT */
#ifndef EXAMPLES_KVM_GUEST_H
#define EXAMPLES_KVM_GUEST_H

#include <stdint.h>

/* The pages that one vCPU reads: from @first, every @step-th one. */
struct share {
	const uint64_t *memory;
	uint64_t first, step, nr_pages;
};

/* Runs in the guest.  Returns how many pages do not begin with their number plus one. */
uint64_t guest_count_wrong(void *share);

#endif
