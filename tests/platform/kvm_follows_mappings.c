/* SPDX-License-Identifier: MIT */
/*
 * KVM follows the process's page tables: what is unmapped, discarded or mapped over
 * under a slot is not read any more.
 */
#include "kvm.h"

static void expect(struct vcpu_vm *vm, uint8_t *at, uint64_t value, const char *what)
{
	struct plt_run r;

	plt_run_start(&r, vm, guest_read, at);
	plt_run_expect(&r, 0, what);
	PLT_CHECK(r.result == value, "%s: expected %llx, the guest read %llx", what,
		  (unsigned long long)value, (unsigned long long)r.result);
}

int main(void)
{
	int fd, other;
	uint8_t *mem;
	struct vcpu_vm *vm;

	plt_init();
	fd = plt_memfd(4 * PLT_PAGE);
	plt_fill(fd, 0, 4, 0x96);
	other = plt_memfd(4 * PLT_PAGE);
	plt_fill(other, 0, 4, 0x97);
	mem = plt_map(fd, 4 * PLT_PAGE, MAP_PRIVATE);
	vm = plt_vm(0, mem, 4 * PLT_PAGE);

	expect(vm, mem, UINT64_C(0x9696969696969696), "the mapping as it was");
	*(volatile uint64_t *)(void *)mem = 17;
	expect(vm, mem, 17, "a private copy, of the host's");
	PLT_CHECK(madvise(mem, PLT_PAGE, MADV_DONTNEED) == 0, "DONTNEED: %s", strerror(errno));
	expect(vm, mem, UINT64_C(0x9696969696969696), "after DONTNEED");
	PLT_CHECK(mmap(mem, 4 * PLT_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, other,
		       0) != MAP_FAILED,
		  "mmap: %s", strerror(errno));
	expect(vm, mem, UINT64_C(0x9797979797979797), "another file, mapped over");
	PLT_CHECK(madvise(mem, PLT_PAGE, MADV_REMOVE) == 0, "REMOVE: %s", strerror(errno));
	expect(vm, mem, 0, "after REMOVE");
	plt_pass();
}
