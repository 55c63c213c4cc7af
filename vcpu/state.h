/* SPDX-License-Identifier: MIT */
/* The internal state of a virtual machine and its vCPUs. */
#ifndef VCPU_STATE_H
#define VCPU_STATE_H

#include "vcpu/vcpu.h"

#include <linux/kvm.h>
#include <pthread.h>
#include <stdatomic.h>

#define VCPU_PAGE UINT64_C(4096)
#define VCPU_LARGE (UINT64_C(2) << 20)

/*
 * The doorbell, a physical address without memory: a write there says that the function has
 * returned.  (With hardware virtualization an I/O port would do; where KVM emulates,
 * privilege level 3 has no ports.)
 */
#define VCPU_DOORBELL_GPA UINT64_C(0xd0000000)
/* 4 bytes written to this port are stored in mail->echo. */
#define VCPU_PORT_ECHO 0x10

/*
 * The mailbox, the first page of a vCPU's own memory.  FS and GS point to it: the compiler
 * reads the stack protector's canary at FS:0x28, where any value will do.
 */
struct vcpu_mail {
	struct vcpu_mail *self; /* GS:0 */
	uint64_t unused[7];
	/* Read by vcpu_stub(), in which these offsets are written out. */
	vcpu_fn fn;      /* 0x40 */
	void *arg;       /* 0x48 */
	uint64_t result; /* 0x50 */
	uint32_t echo;   /* 0x58, from VCPU_PORT_ECHO */
};

/* The layout of a vCPU's own memory: its mailbox, an unmapped guard page, its stack. */
#define VCPU_OWN_BYTES (64 * UINT64_C(1024))
#define VCPU_STACK_AT (2 * VCPU_PAGE)

struct vcpu {
	struct vcpu_vm *vm;
	int fd;
	bool started; /* it is in vcpu_stub(), before the next function */
	bool dead;    /* every later vcpu_run() fails */
	struct kvm_run *run;
	struct vcpu_mail *mail;
	/* Set by the SIGBUS handler for vcpu_run(), on the same thread. */
	volatile sig_atomic_t poisoned;
	volatile uint64_t fault_addr;
};

struct vcpu_range {
	uint64_t addr, len_bytes, gpa; /* len_bytes 0: the slot is free */
	bool writable;
};

struct vcpu_vm {
	int kvm_fd, fd;
	size_t run_bytes;
	uint32_t nr;
	struct vcpu *vcpus;
	bool level0, answers_mmio;
	char *own; /* VCPU_OWN_BYTES for each vCPU, then the page that maps the doorbell */
	bool tsc_is_host;
	struct kvm_cpuid2 *cpuid;

	/* memory.c */
	pthread_mutex_t lock; /* guards what follows */
	struct vcpu_range *ranges;
	uint32_t nr_ranges, max_ranges;
	uint64_t gpa_end;
	uint64_t *tables; /* page tables; the first is the root */
	uint32_t nr_tables;
};

static inline char *vcpu_doorbell(const struct vcpu_vm *vm)
{
	return vm->own + vm->nr * VCPU_OWN_BYTES;
}

#endif
