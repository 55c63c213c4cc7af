/* SPDX-License-Identifier: MIT */
/* Code that runs in the guest, compiled for it (fln_guest_code()). */
#include "bench/kvm_guest.h"

#include "vcpu/vcpu.h"

#define PAGE_BYTES UINT64_C(4096)

uint64_t kvm_guest_prepare(void *arg)
{
	struct kvm_toucher *t = arg;
	uint64_t sum = 0;

	for (uint64_t i = 0; i < t->nr; i++) {
		volatile uint64_t *slot = &t->slots[i];

		*slot = *slot; /* write it as well: the first write is another fault */
		sum += ((const volatile uint32_t *)t->pages)[i];
	}
	t->nr_wrong = 0;
	return sum;
}

/* The end of a touch is the beginning of the next, so a touch needs one reading of the counter. */
uint64_t kvm_guest_touch(void *arg)
{
	struct kvm_toucher *t = arg;
	uint64_t from = vcpu_rdtsc(), wrong = 0;

	for (uint64_t i = 0; i < t->nr; i++) {
		volatile uint64_t *word =
			(volatile uint64_t *)(void *)(t->addr + t->pages[i] * PAGE_BYTES);
		uint64_t to;

		if (t->writes)
			*word = t->slots[i];
		else
			wrong += *word != t->slots[i];
		to = vcpu_rdtsc();
		t->slots[i] = to - from;
		from = to;
	}
	t->nr_wrong = wrong;
	return 0;
}
