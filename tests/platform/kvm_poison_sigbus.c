/* SPDX-License-Identifier: MIT */
/*
 * A vCPU that touches a poisoned page: its thread gets SIGBUS with BUS_MCEERR_AR and the
 * address of the page, and KVM_RUN is interrupted (EINTR), for reads and for writes, also
 * when the page is poisoned while the vCPU waits for it.  The vCPU is as before the
 * touch, and can go on.
 */
#include "kvm.h"

int main(void)
{
	struct plt_denied d;
	struct plt_run r;
	struct vcpu_vm *vm;
	uint8_t *mem;
	uint64_t at;
	int uffd;

	plt_init();
	d = plt_deny_poison();
	at = plt_run_once(0, d.mem, d.len, guest_read, d.at, -EHWPOISON, "a read of poison");
	PLT_CHECK(at == (uintptr_t)d.at, "the signal is about 0x%llx, not %p",
		  (unsigned long long)at, (void *)d.at);
	at = plt_run_once(0, d.mem, d.len, guest_write, d.at, -EHWPOISON, "a write to poison");
	PLT_CHECK(at == (uintptr_t)d.at, "the signal is about 0x%llx, not %p",
		  (unsigned long long)at, (void *)d.at);

	uffd = plt_uffd(UFFD_FEATURE_MINOR_SHMEM | UFFD_FEATURE_POISON);
	mem = plt_map(plt_memfd(4 * PLT_PAGE), 4 * PLT_PAGE, MAP_SHARED);
	plt_poisonable(uffd, mem, 4 * PLT_PAGE, PLT_BOTH);
	vm = plt_vm(0, mem, 4 * PLT_PAGE);
	plt_run_start(&r, vm, guest_read, mem);
	plt_expect_fault(uffd, mem, false, "a vCPU's touch of a hole");
	plt_expect_err(plt_poison(uffd, mem, PLT_PAGE, 0, NULL), 0, "POISON");
	plt_run_expect(&r, -EHWPOISON, "a vCPU that waits, after POISON");
	plt_run_start(&r, vm, guest_write, mem + PLT_PAGE);
	plt_expect_fault(uffd, mem + PLT_PAGE, false, "the same vCPU's next touch");
	plt_expect_err(plt_zeropage(uffd, mem + PLT_PAGE, PLT_PAGE, 0, NULL), 0, "ZEROPAGE");
	plt_run_expect(&r, 0, "the next touch, after ZEROPAGE");
	plt_pass();
}
