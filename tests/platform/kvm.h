/* SPDX-License-Identifier: MIT */
/*
 * Platform tests with a vCPU, by vcpu/.  What it tells is what KVM_RUN and the signal
 * told: see vcpu_run() in vcpu/vcpu.h.
 */
#ifndef FLN_TESTS_PLATFORM_KVM_H
#define FLN_TESTS_PLATFORM_KVM_H

#include "platform.h"

#include "vcpu/vcpu.h"

/* Run in the guest (kvm_guest.c).  Each is a vcpu_fn. */
uint64_t guest_read(void *addr);          /* 8 bytes */
uint64_t guest_write(void *addr);         /* 8 bytes; what was there before is not read */
uint64_t guest_read_emulated(void *addr); /* 4 bytes, at level 0 */
uint64_t guest_level(void *unused);
uint64_t guest_rdtsc(void *unused);
#define GUEST_WRITES UINT64_C(0x5757575757575757)

/* A virtual machine with one vCPU that reaches [mem, mem + len); skips without KVM. */
struct vcpu_vm *plt_vm(uint32_t flags, void *mem, uint64_t len);

/* A run on a thread of its own. */
struct plt_run {
	struct plt_task task;
	struct vcpu *vcpu;
	vcpu_fn fn;
	void *arg;
	int rc; /* vcpu_run()'s */
	uint64_t result;
	char error[256];
};

void plt_run_start(struct plt_run *r, struct vcpu_vm *vm, vcpu_fn fn, void *arg);
void plt_run_expect(struct plt_run *r, int rc, const char *what);
/* Both, in a virtual machine that ends with it; returns the result. */
uint64_t plt_run_once(uint32_t flags, void *mem, uint64_t len, vcpu_fn fn, void *arg, int rc,
		      const char *what);

/* Memory that has failed, in all ways: @at is the page's address. */
struct plt_denied {
	const char *how;
	uint8_t *mem, *at;
	uint64_t len;
};

struct plt_denied plt_deny_none(void);   /* PROT_NONE */
struct plt_denied plt_deny_end(void);    /* beyond the end of the file */
struct plt_denied plt_deny_sigbus(void); /* a userfaultfd in SIGBUS mode */
struct plt_denied plt_deny_poison(void);

#endif
