/* SPDX-License-Identifier: MIT */
#ifndef EXAMPLES_KVM_GUEST_H
#define EXAMPLES_KVM_GUEST_H

#include <stdint.h>

/* What a vCPU reads: every @step-th page. */
struct share {
	const uint64_t *memory;
	uint64_t first, step, nr_pages;
};

/* Runs in the guest: how many of them do not tell their number. */
uint64_t guest_count_wrong(void *share);

#endif
