/* SPDX-License-Identifier: MIT */
#include "vcpu_guest.h"

#define WORDS_PER_PAGE 512u

uint64_t guest_constant_sum;
static const uint64_t constants[4] = { 2, 3, 5, 7 };

uint64_t guest_sum(void *guest_words)
{
	const struct guest_words *w = guest_words;
	uint64_t sum = 0;

	for (uint64_t i = 0; i < w->nr; i++)
		sum += *(volatile uint64_t *)&w->words[i * WORDS_PER_PAGE];
	return sum;
}

uint64_t guest_number(void *guest_words)
{
	const struct guest_words *w = guest_words;

	for (uint64_t i = 0; i < w->nr; i++)
		*(volatile uint64_t *)&w->words[i * WORDS_PER_PAGE] = w->first + i;
	return w->nr;
}

/* 64 bytes and more of stack each, which the compiler cannot do without. */
uint64_t guest_deep(void *nr_frames)
{
	uint64_t nr = (uint64_t)(uintptr_t)nr_frames;
	volatile uint64_t own[8];

	own[nr % 8] = nr;
	/* NOLINTNEXTLINE(misc-no-recursion) */
	return nr ? guest_deep((void *)(uintptr_t)(nr - 1)) + (own[nr % 8] == nr) : 0;
}

uint64_t guest_poke(void *addr)
{
	*(volatile uint64_t *)addr = 1;
	return 0;
}

uint64_t guest_peek(void *addr)
{
	return *(volatile uint64_t *)addr;
}

uint64_t guest_wait(void *flag)
{
	uint64_t value;

	while ((value = __atomic_load_n((uint64_t *)flag, __ATOMIC_ACQUIRE)) == 0)
		vcpu_pause();
	return value;
}

uint64_t guest_data(void *unused)
{
	(void)unused;
	for (uint32_t i = 0; i < 4; i++)
		guest_constant_sum += constants[i];
	return guest_constant_sum;
}

uint64_t guest_time(void *clock)
{
	return vcpu_clock_ns(clock);
}
