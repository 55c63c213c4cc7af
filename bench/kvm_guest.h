/* SPDX-License-Identifier: MIT */
/*
 * The touching loop of a vCPU.  It runs in a guest, where there is nothing but the
 * memory that it was given: what it measures lies there, too.
 */
#ifndef BENCH_KVM_GUEST_H
#define BENCH_KVM_GUEST_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What one vCPU does, and what came of it. */
struct kvm_toucher {
	char *addr;            /* where the memory is, in the guest as outside */
	const uint32_t *pages; /* in the order of touching */
	/*
	 * One for each page: beforehand what is written there, or must be read; afterwards
	 * how many ticks of the time-stamp counter the touch took.
	 */
	uint64_t *slots;
	uint64_t nr;
	uint64_t writes;
	uint64_t nr_wrong; /* words that were read and should have been others */
};

/* Functions for vcpu_run(); their argument is a struct kvm_toucher. */

/* Touch what the loop itself needs, so that no touch pays for it. */
uint64_t kvm_guest_prepare(void *arg);
uint64_t kvm_guest_touch(void *arg);

#ifdef __cplusplus
}
#endif

#endif
