/* SPDX-License-Identifier: MIT */
/*
 * KVM vCPUs that run plain C functions of this program.
 *
 * Such a guest has no kernel, no devices and no address space of its own: memory has the
 * same address in the guest and in this process.  The guest can access the program's own
 * code and data, a stack for each vCPU, and ranges mapped by vcpu_vm_map().
 * vcpu_run() calls a function in the guest, on the calling thread, and returns when the
 * function returns.  Page faults of the function are those of a vCPU: KVM handles them
 * in kernel mode, on the thread that runs it.
 *
 * Guest functions, and all functions that they call, are compiled by fln_guest_code() of
 * cmake/Faultlane.cmake: without sanitizers, and without calls that the compiler inserts
 * (memcpy).  They must not use system calls, library functions (other
 * objects' code), thread-local variables or floating point.  They run at privilege
 * level 3 in long mode, at native speed, without interrupts: nothing stops
 * them from outside, so a long-running one must poll a flag.
 *
 * x86-64 only.  Depends on nothing of the engine.
 */
#ifndef VCPU_VCPU_H
#define VCPU_VCPU_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct vcpu_vm;
struct vcpu;

/* Runs in the guest. */
typedef uint64_t (*vcpu_fn)(void *arg);

/* NULL: vCPUs are available here; else a message with the reason and the remedy. */
const char *vcpu_unavailable(void);

/* The error message of this thread's last failed call. */
const char *vcpu_last_error(void);

/* Run at privilege level 0, where I/O ports work.  Slow on machines that emulate it. */
#define VCPU_VM_F_LEVEL0 0x1u
/*
 * A deliberate bug, for tests that must detect it: MMIO exits are answered with zeros, as
 * monitors do for absent devices.
 */
#define VCPU_VM_F_ANSWER_MMIO 0x2u

/*
 * Create a virtual machine with @nr_vcpus vCPUs and map the program's code and data in it.
 * Return: 0; -EOPNOTSUPP: no KVM; -EINVAL; -ENOMEM; else an errno from KVM.
 */
int vcpu_vm_create(uint32_t nr_vcpus, uint32_t flags, struct vcpu_vm **out);
/* No thread may be inside vcpu_run().  NULL is permitted. */
void vcpu_vm_destroy(struct vcpu_vm *vm);

/*
 * Map [addr, addr + len_bytes), whole pages, in the guest at the same addresses, by a memory
 * slot.  The process may replace its own mapping meanwhile, because KVM follows the host's page
 * tables.  Threads: any.  vCPUs may be running.
 *
 * Return: 0; -EINVAL: unaligned or empty; -EEXIST: overlaps a mapped range; -ENOSPC: no
 * free guest physical addresses; -ENOMEM; else an errno from KVM.
 */
int vcpu_vm_map(struct vcpu_vm *vm, const void *addr, uint64_t len_bytes, bool writable);
/*
 * Unmap the range that was mapped at @addr.  When this returns no vCPU can access it; one that
 * tries to is dead (-EIO).  Return: 0; -ENOENT.
 */
int vcpu_vm_unmap(struct vcpu_vm *vm, const void *addr);

uint32_t vcpu_vm_nr(const struct vcpu_vm *vm);
struct vcpu *vcpu_vm_vcpu(struct vcpu_vm *vm, uint32_t index);

/*
 * Run @fn(@arg) on the vCPU, on this thread; one thread at a time.  Blocks until @fn returns.
 * Signals are handled meanwhile, and do not end the run.
 *
 * Return: 0: @fn has returned; *@result (may be NULL) receives its result.
 * -EHWPOISON: @fn touched a failed page.  The thread got SIGBUS, which vcpu_sigbus()
 *   recorded; vcpu_fault_addr() returns the address.  @fn was abandoned, and the
 *   vCPU can run another function.
 * -EFAULT: likewise, but the kernel does not report the page: its memory is
 *   inaccessible, beyond the end of its file, or in a region resolved in context.
 * -EIO: the vCPU is dead, for the reason in vcpu_last_error(), and
 *   every later call fails with -EIO.  One reason is an MMIO exit inside a slot: KVM
 *   asks this program for the contents of failed memory, and any answer would be
 *   wrong data.
 * else: an errno of KVM_RUN; the vCPU is dead.
 */
int vcpu_run(struct vcpu *v, vcpu_fn fn, void *arg, uint64_t *result);

/* The failed address of the last vcpu_run() that returned -EHWPOISON. */
uint64_t vcpu_fault_addr(const struct vcpu *v);

/*
 * For SIGBUS handlers: true when the signal is for a failed page that this thread's vCPU
 * touched.  The handler then returns, and so does vcpu_run().  Async-signal-safe.
 */
bool vcpu_sigbus(const siginfo_t *info);
/* Install a handler that calls vcpu_sigbus(); any other SIGBUS kills the process. */
int vcpu_sigbus_install(void);

/*
 * Do vCPUs read the host's time-stamp counter, so that their readings can be compared with those
 * of other vCPUs and of threads?  False before Linux 5.16, where the counter lags by the time
 * that setting it takes.
 */
bool vcpu_vm_tsc_is_host(const struct vcpu_vm *vm);

/*
 * For code inside and outside the guest.
 */
static inline uint64_t vcpu_rdtsc(void)
{
	uint32_t lo, hi;

	__asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi)::"memory");
	return ((uint64_t)hi << 32) | lo;
}

static inline void vcpu_pause(void)
{
	__asm__ volatile("pause" ::: "memory");
}

/* Converts time stamps to CLOCK_MONOTONIC; drifts by up to some 100 us per second. */
struct vcpu_clock {
	uint64_t tsc, ns;   /* both clocks at the same moment */
	uint64_t ns_by_tsc; /* nanoseconds per tick, times 2^32 */
};

__extension__ typedef unsigned __int128 vcpu_u128;

/* Calibrate the counter; blocks for 20 ms. */
void vcpu_clock_init(struct vcpu_clock *c);

static inline uint64_t vcpu_clock_ns(const struct vcpu_clock *c)
{
	vcpu_u128 passed = vcpu_rdtsc() - c->tsc;

	return c->ns + (uint64_t)((passed * c->ns_by_tsc) >> 32);
}

/*
 * In the guest: read 4 bytes by an instruction that KVM emulates on every machine (a
 * string output), some 20 us each.  Needs VCPU_VM_F_LEVEL0.  Failed memory
 * causes an MMIO exit there instead of SIGBUS.
 */
uint32_t vcpu_load_emulated(const uint32_t *from);

#ifdef __cplusplus
}
#endif

#endif
