/* SPDX-License-Identifier: MIT */
/* What the platform tests run in vCPUs. */
#include "kvm.h"

uint64_t guest_read(void *addr)
{
	return *(volatile uint64_t *)addr;
}

uint64_t guest_write(void *addr)
{
	*(volatile uint64_t *)addr = GUEST_WRITES;
	return 0;
}

uint64_t guest_read_emulated(void *addr)
{
	return vcpu_load_emulated(addr);
}

uint64_t guest_level(void *unused)
{
	uint16_t cs;

	(void)unused;
	__asm__ volatile("mov %%cs, %0" : "=r"(cs));
	return cs & 3;
}

uint64_t guest_rdtsc(void *unused)
{
	(void)unused;
	return vcpu_rdtsc();
}
