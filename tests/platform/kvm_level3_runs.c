/* SPDX-License-Identifier: MIT */
/*
 * Functions of the program run in a vCPU at privilege level 3, at the program's own
 * addresses, and see its memory as it is; their time stamps lie between the program's.
 */
#include "kvm.h"

int main(void)
{
	uint64_t before, within;
	struct vcpu_vm *vm;
	struct plt_run r;
	uint8_t *mem;
	int fd;

	plt_init();
	fd = plt_memfd(4 * PLT_PAGE);
	plt_fill(fd, 0, 4, 0x90);
	mem = plt_map(fd, 4 * PLT_PAGE, MAP_SHARED);
	vm = plt_vm(0, mem, 4 * PLT_PAGE);

	plt_run_start(&r, vm, guest_level, NULL);
	plt_run_expect(&r, 0, "a look at the level");
	PLT_CHECK(r.result == 3, "expected level 3, the code segment says %d", (int)r.result);
	plt_run_start(&r, vm, guest_read, mem + PLT_PAGE);
	plt_run_expect(&r, 0, "a read");
	PLT_CHECK(r.result == UINT64_C(0x9090909090909090),
		  "expected the page, the guest read %llx", (unsigned long long)r.result);
	plt_run_start(&r, vm, guest_write, mem + PLT_PAGE);
	plt_run_expect(&r, 0, "a write");
	PLT_CHECK(*(volatile uint64_t *)(void *)(mem + PLT_PAGE) == GUEST_WRITES,
		  "what the guest wrote is not there");

	if (vcpu_vm_tsc_is_host(vm)) {
		before = vcpu_rdtsc();
		plt_run_start(&r, vm, guest_rdtsc, NULL);
		plt_run_expect(&r, 0, "a look at the counter");
		within = r.result;
		PLT_CHECK(before <= within && within <= vcpu_rdtsc(),
			  "the guest's counter is not between two looks of the host's: %lld after "
			  "the first",
			  (long long)(within - before));
	}
	plt_pass();
}
