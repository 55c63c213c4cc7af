/* SPDX-License-Identifier: MIT */
/*
 * A vCPU's touch of memory that is registered is a fault of its thread: it is queued,
 * KVM_RUN waits, and it ends when the page is installed.
 */
#include "kvm.h"

int main(void)
{
	struct vcpu_vm *vm;
	struct plt_run r;
	uint8_t *mem;
	int uffd, fd;

	plt_init();
	uffd = plt_uffd(UFFD_FEATURE_MINOR_SHMEM);
	fd = plt_memfd(4 * PLT_PAGE);
	plt_fill(fd, 0, 1, 0x95);
	mem = plt_map(fd, 4 * PLT_PAGE, MAP_SHARED);
	plt_register(uffd, mem, 4 * PLT_PAGE, PLT_BOTH);
	vm = plt_vm(0, mem, 4 * PLT_PAGE);

	plt_run_start(&r, vm, guest_read, mem);
	plt_expect_fault(uffd, mem, true, "a vCPU's touch of a cached page");
	plt_task_expect_asleep(&r.task, "KVM_RUN");
	plt_expect_err(plt_continue(uffd, mem, PLT_PAGE, 0, NULL), 0, "CONTINUE");
	plt_run_expect(&r, 0, "the read, after CONTINUE");
	PLT_CHECK(r.result == UINT64_C(0x9595959595959595), "the guest read %llx",
		  (unsigned long long)r.result);

	plt_run_start(&r, vm, guest_write, mem + PLT_PAGE);
	plt_expect_fault(uffd, mem + PLT_PAGE, false, "a vCPU's touch of a hole");
	plt_expect_err(plt_zeropage(uffd, mem + PLT_PAGE, PLT_PAGE, 0, NULL), 0, "ZEROPAGE");
	plt_run_expect(&r, 0, "the write, after ZEROPAGE");
	PLT_CHECK(*(volatile uint64_t *)(void *)(mem + PLT_PAGE) == GUEST_WRITES,
		  "what the guest wrote is not there");
	plt_expect_no_message(uffd, "what is installed");
	plt_pass();
}
