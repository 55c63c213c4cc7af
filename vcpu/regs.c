/* SPDX-License-Identifier: MIT */
/* The registers of a vCPU: 64-bit long mode, flat segments, privilege level 3 or 0. */
#include "vcpu/regs.h"

#include "vcpu/error.h"
#include "vcpu/memory.h"
#include "vcpu/state.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#define CR0_PE_MP_ET_NE_WP_PG 0x80010033u
#define CR4_PAE_OSFXSR_OSXMMEXCPT 0x620u
#define EFER_LME_LMA 0x500u
#define RFLAGS 0x2u

/*
 * A loop that calls the function in the mailbox and rings the doorbell when it has returned.
 * So vcpu_run() need not set registers, and costs one exit.
 */
__asm__(".text\n"
	".globl vcpu_stub\n"
	".hidden vcpu_stub\n"
	".type vcpu_stub, @function\n"
	"vcpu_stub:\n"
	"	mov 0x48(%rbx), %rdi\n"
	"	call *0x40(%rbx)\n"
	"	mov %rax, 0x50(%rbx)\n"
	"	movb $1, (%r12)\n"
	"	jmp vcpu_stub\n"
	".size vcpu_stub, . - vcpu_stub\n");

static struct kvm_segment segment(uint16_t selector, uint8_t type, uint8_t level)
{
	return (struct kvm_segment){
		.limit = UINT32_MAX,
		.selector = (uint16_t)(selector | level),
		.type = type,
		.present = 1,
		.dpl = level,
		.s = 1,
		.g = 1,
	};
}

static int set_sregs(struct vcpu *v)
{
	uint8_t level = v->vm->level0 ? 0 : 3;
	struct kvm_segment code = segment(0x30, 0xb, level), data = segment(0x28, 0x3, level);
	struct kvm_sregs s;

	if (ioctl(v->fd, KVM_GET_SREGS, &s))
		return -errno;
	code.l = 1;
	data.db = 1;
	s.cs = code;
	s.ds = s.es = s.ss = s.fs = s.gs = data;
	s.fs.base = s.gs.base = (uint64_t)(uintptr_t)v->mail;
	/* KVM_RUN requires a valid TR, although nothing uses it without interrupts. */
	s.tr = (struct kvm_segment){ .limit = 0x67, .type = 0xb, .present = 1, .selector = 0x40 };
	s.ldt = (struct kvm_segment){ .unusable = 1 };
	s.gdt = s.idt = (struct kvm_dtable){ .limit = 0 };
	s.cr0 = CR0_PE_MP_ET_NE_WP_PG;
	s.cr3 = vcpu_memory_root(v->vm);
	s.cr4 = CR4_PAE_OSFXSR_OSXMMEXCPT;
	s.efer = EFER_LME_LMA;
	return ioctl(v->fd, KVM_SET_SREGS, &s) ? -errno : 0;
}

int vcpu_regs_restart(struct vcpu *v)
{
	struct kvm_regs r = {
		.rip = (uint64_t)(uintptr_t)vcpu_stub,
		.r12 = (uint64_t)(uintptr_t)vcpu_doorbell(v->vm),
		.rbx = (uint64_t)(uintptr_t)v->mail,
		.rsp = (uint64_t)(uintptr_t)v->mail + VCPU_OWN_BYTES,
		.rflags = RFLAGS,
	};

	return ioctl(v->fd, KVM_SET_REGS, &r) ? -errno : 0;
}

int vcpu_regs_init(struct vcpu *v)
{
	int rc = set_sregs(v);

	if (rc == 0)
		rc = vcpu_regs_restart(v);
	return rc ? vcpu_fail(rc, "KVM refuses the state of a vCPU: %s", strerror(-rc)) : 0;
}
