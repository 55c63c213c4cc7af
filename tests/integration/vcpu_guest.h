/* SPDX-License-Identifier: MIT */
/* What tests/integration/vcpu.c runs in vCPUs (vcpu_guest.c).  Each is a vcpu_fn. */
#ifndef TESTS_VCPU_GUEST_H
#define TESTS_VCPU_GUEST_H

#include "vcpu/vcpu.h"

struct guest_words {
	uint64_t *words;
	uint64_t nr, first;
};

uint64_t guest_sum(void *guest_words);    /* of a word per page */
uint64_t guest_number(void *guest_words); /* writes first, first + 1, ... one per page */
uint64_t guest_deep(void *nr_frames);     /* calls itself so often */
uint64_t guest_poke(void *addr);          /* writes 1 */
uint64_t guest_peek(void *addr);
uint64_t guest_wait(void *flag);   /* until the uint64_t is not 0, which it returns */
uint64_t guest_data(void *unused); /* the program's own */
uint64_t guest_time(void *clock);  /* struct vcpu_clock */

extern uint64_t guest_constant_sum;

#endif
