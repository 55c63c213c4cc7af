/* SPDX-License-Identifier: MIT */
/*
 * The touching loop of a vCPU.  It runs in a guest, which can access only the memory mapped
 * for it, so the results are stored there as well.
 */
#ifndef BENCH_KVM_GUEST_H
#define BENCH_KVM_GUEST_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The work of one vCPU, and its results. */
struct kvm_toucher {
	char *addr;            /* the memory under test, at the same address inside and outside */
	const uint32_t *pages; /* in the order of touching */
	/*
	 * One for each page.  Before: the word to write, or the word expected when reading.
	 * After: the duration of the touch in ticks of the time-stamp counter.
	 */
	uint64_t *slots;
	uint64_t nr;
	uint64_t writes;
	uint64_t nr_wrong; /* words read that differ from the expected ones */
};

/* Functions for vcpu_run(), which pass a struct kvm_toucher. */

/* Fault in the memory that the loop itself needs, outside the measurement. */
uint64_t kvm_guest_prepare(void *arg);
uint64_t kvm_guest_touch(void *arg);

#ifdef __cplusplus
}
#endif

#endif
