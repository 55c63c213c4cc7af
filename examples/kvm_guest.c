/* SPDX-License-Identifier: MIT */
/* The code that the vCPUs of kvm.c run, compiled for the guest. */
#include "kvm_guest.h"

uint64_t guest_count_wrong(void *share)
{
	const struct share *s = share;
	uint64_t nr_wrong = 0;

	for (uint64_t page = s->first; page < s->nr_pages; page += s->step)
		nr_wrong += *(const volatile uint64_t *)(s->memory + page * 512) != page + 1;
	return nr_wrong;
}
