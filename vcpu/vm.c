/* SPDX-License-Identifier: MIT */
/* Creates and destroys a virtual machine and its vCPUs. */
#include "vcpu/state.h"

#include "vcpu/error.h"
#include "vcpu/memory.h"
#include "vcpu/regs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define CPUID_MAX 256u
#define MSR_TSC 0x10u
#define CPUID_ADDRESS_SIZES 0x80000008u

#ifndef KVM_VCPU_TSC_CTRL
#define KVM_VCPU_TSC_CTRL 0
#define KVM_VCPU_TSC_OFFSET 0
#endif

static int open_kvm(void)
{
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC), rc;

	if (fd < 0) {
		rc = errno == ENOENT ? -EOPNOTSUPP : -errno;
		return vcpu_fail(rc, "/dev/kvm: %s: %s", strerror(errno),
				 errno == EACCES
					 ? "join the group that owns it (kvm)"
					 : "load the kvm module; in a virtual machine, enable "
					   "nested virtualization");
	}
	if (ioctl(fd, KVM_GET_API_VERSION, 0) != KVM_API_VERSION) {
		(void)close(fd);
		return vcpu_fail(-EOPNOTSUPP, "/dev/kvm: the API version is not %d",
				 KVM_API_VERSION);
	}
	return fd;
}

const char *vcpu_unavailable(void)
{
	int fd = open_kvm();

	if (fd < 0)
		return vcpu_last_error();
	(void)close(fd);
	return NULL;
}

/* Read the CPUID leaves that KVM supports, and from them the end of guest physical addresses. */
static int read_cpuid(struct vcpu_vm *vm)
{
	struct kvm_cpuid2 *c = calloc(1, sizeof(*c) + CPUID_MAX * sizeof(c->entries[0]));

	vm->cpuid = c;
	if (!c)
		return vcpu_fail(-ENOMEM, "no memory for the CPUID leaves");
	c->nent = CPUID_MAX;
	if (ioctl(vm->kvm_fd, KVM_GET_SUPPORTED_CPUID, c))
		return vcpu_fail(-errno, "KVM_GET_SUPPORTED_CPUID: %s", strerror(errno));
	vm->gpa_end = UINT64_C(1) << 36;
	for (uint32_t i = 0; i < c->nent; i++) {
		uint32_t bits = c->entries[i].eax & 0xff;

		if (c->entries[i].function == CPUID_ADDRESS_SIZES && bits > 36)
			vm->gpa_end = UINT64_C(1) << (bits < 52 ? bits : 52);
	}
	return 0;
}

/*
 * Set the vCPU's time-stamp counter to what the host's reads now: it then lags behind by the time
 * that this call takes.
 */
static void set_tsc_roughly(struct vcpu *v)
{
	char room[sizeof(struct kvm_msrs) + sizeof(struct kvm_msr_entry)]
		__attribute__((aligned(8))) = { 0 };
	struct kvm_msrs *m = (struct kvm_msrs *)(void *)room;

	m->nmsrs = 1;
	m->entries[0].index = MSR_TSC;
	m->entries[0].data = vcpu_rdtsc();
	(void)ioctl(v->fd, KVM_SET_MSRS, m);
}

/*
 * Let the vCPU's time-stamp counter read the same as the host's (offset 0).  False: this kernel
 * cannot (before Linux 5.16), and the counter is only approximately the same.
 */
static bool set_tsc(struct vcpu *v)
{
	uint64_t zero = 0;
	struct kvm_device_attr a = { .group = KVM_VCPU_TSC_CTRL,
				     .attr = KVM_VCPU_TSC_OFFSET,
				     .addr = (uint64_t)(uintptr_t)&zero };

	if (ioctl(v->fd, KVM_SET_DEVICE_ATTR, &a) == 0)
		return true;
	set_tsc_roughly(v);
	return false;
}

static int init_vcpu(struct vcpu_vm *vm, uint32_t index)
{
	struct vcpu *v = &vm->vcpus[index];
	char *own = vm->own + index * VCPU_OWN_BYTES;
	void *run;
	int rc;

	v->vm = vm;
	v->fd = ioctl(vm->fd, KVM_CREATE_VCPU, (unsigned long)index);
	if (v->fd < 0)
		return vcpu_fail(-errno, "KVM cannot create vCPU %u: %s", index, strerror(errno));
	run = mmap(NULL, vm->run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, v->fd, 0);
	if (run == MAP_FAILED)
		return vcpu_fail(-errno, "cannot map vCPU %u: %s", index, strerror(errno));
	v->run = run;
	v->mail = (struct vcpu_mail *)(void *)own;
	v->mail->self = v->mail;
	if (ioctl(v->fd, KVM_SET_CPUID2, vm->cpuid))
		return vcpu_fail(-errno, "KVM_SET_CPUID2 for vCPU %u: %s", index, strerror(errno));
	vm->tsc_is_host &= set_tsc(v);
	/* Leave the page between mailbox and stack unmapped, to catch stack overflows. */
	rc = vcpu_vm_map(vm, own, VCPU_PAGE, true);
	if (rc == 0)
		rc = vcpu_vm_map(vm, own + VCPU_STACK_AT, VCPU_OWN_BYTES - VCPU_STACK_AT, true);
	return rc ? rc : vcpu_regs_init(v);
}

static int init_vm(struct vcpu_vm *vm)
{
	int rc, size;
	void *own;

	vm->kvm_fd = open_kvm();
	if (vm->kvm_fd < 0)
		return vm->kvm_fd;
	vm->fd = ioctl(vm->kvm_fd, KVM_CREATE_VM, 0UL);
	if (vm->fd < 0)
		return vcpu_fail(-errno, "KVM cannot create a virtual machine: %s",
				 strerror(errno));
	size = ioctl(vm->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (size < (int)sizeof(struct kvm_run))
		return vcpu_fail(-EOPNOTSUPP, "KVM's vCPU mapping has only %d bytes", size);
	vm->run_bytes = (size_t)size;
	/* Needed on Intel processors without unrestricted guests; harmless elsewhere. */
	(void)ioctl(vm->fd, KVM_SET_TSS_ADDR, 0xfffbd000UL);
	own = mmap(NULL, vm->nr * VCPU_OWN_BYTES + VCPU_PAGE, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	vm->own = own == MAP_FAILED ? NULL : own;
	vm->vcpus = calloc(vm->nr, sizeof(*vm->vcpus));
	/* Before anything can fail: vcpu_vm_destroy() closes descriptors that are not negative. */
	for (uint32_t i = 0; vm->vcpus && i < vm->nr; i++)
		vm->vcpus[i].fd = -1;
	if (!vm->own || !vm->vcpus)
		return vcpu_fail(-ENOMEM, "no memory for %u vCPUs", vm->nr);
	(void)madvise(own, vm->nr * VCPU_OWN_BYTES + VCPU_PAGE, MADV_DONTFORK);
	rc = read_cpuid(vm);
	if (rc == 0)
		rc = vcpu_memory_init(vm);
	if (rc == 0)
		rc = vcpu_memory_map_doorbell(vm, vcpu_doorbell(vm));
	vm->tsc_is_host = true;
	for (uint32_t i = 0; rc == 0 && i < vm->nr; i++)
		rc = init_vcpu(vm, i);
	return rc;
}

int vcpu_vm_create(uint32_t nr_vcpus, uint32_t flags, struct vcpu_vm **out)
{
	struct vcpu_vm *vm;
	int rc;

	if (nr_vcpus == 0)
		return vcpu_fail(-EINVAL, "nr_vcpus is 0; use 1 or more");
	if (flags & ~(VCPU_VM_F_LEVEL0 | VCPU_VM_F_ANSWER_MMIO))
		return vcpu_fail(-EINVAL, "flags are 0x%x; use those of vcpu/vcpu.h", flags);
	vm = calloc(1, sizeof(*vm));
	if (!vm)
		return vcpu_fail(-ENOMEM, "no memory for a virtual machine");
	vm->kvm_fd = vm->fd = -1;
	vm->nr = nr_vcpus;
	vm->level0 = flags & VCPU_VM_F_LEVEL0;
	vm->answers_mmio = flags & VCPU_VM_F_ANSWER_MMIO;
	(void)pthread_mutex_init(&vm->lock, NULL);
	rc = init_vm(vm);
	if (rc)
		vcpu_vm_destroy(vm);
	else
		*out = vm;
	return rc;
}

static void deinit_vcpu(struct vcpu_vm *vm, struct vcpu *v)
{
	if (v->run)
		(void)munmap(v->run, vm->run_bytes);
	if (v->fd >= 0)
		(void)close(v->fd);
}

void vcpu_vm_destroy(struct vcpu_vm *vm)
{
	if (!vm)
		return;
	for (uint32_t i = 0; vm->vcpus && i < vm->nr; i++)
		deinit_vcpu(vm, &vm->vcpus[i]);
	if (vm->fd >= 0)
		(void)close(vm->fd);
	if (vm->kvm_fd >= 0)
		(void)close(vm->kvm_fd);
	vcpu_memory_deinit(vm);
	if (vm->own)
		(void)munmap(vm->own, vm->nr * VCPU_OWN_BYTES + VCPU_PAGE);
	(void)pthread_mutex_destroy(&vm->lock);
	free(vm->cpuid);
	free(vm->vcpus);
	free(vm);
}

uint32_t vcpu_vm_nr(const struct vcpu_vm *vm)
{
	return vm->nr;
}

struct vcpu *vcpu_vm_vcpu(struct vcpu_vm *vm, uint32_t index)
{
	return index < vm->nr ? &vm->vcpus[index] : NULL;
}

bool vcpu_vm_tsc_is_host(const struct vcpu_vm *vm)
{
	return vm->tsc_is_host;
}
