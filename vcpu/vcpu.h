/* SPDX-License-Identifier: MIT */
/*
 * KVM vCPUs that run plain C functions of this program.
 *
 * A guest here has no kernel, no devices and no address space of its own: what it can
 * reach has the address that it has in this process.  It can reach the program's own
 * code and data, a stack for each vCPU, and what was mapped by vcpu_vm_map().
 * vcpu_run() calls a function there, on the calling thread, and returns when the
 * function returns.  Page faults of such a function are those of a vCPU: KVM takes them
 * in kernel mode, on the thread that runs it.
 *
 * Functions that run there, and all that they call, are compiled by fln_guest_code() of
 * cmake/Faultlane.cmake: without sanitizers, and without calls that the compiler makes
 * up (memcpy).  They use no system call, no library function (all of these are other
 * objects' code), no thread-local variable, no floating point.  They run at privilege
 * level 3 in long mode, which is native speed, and have no interrupts: they end by
 * themselves or not at all, so they look at a flag.
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

/* Why there are no vCPUs here, as a sentence with the remedy; NULL: there are. */
const char *vcpu_unavailable(void);

/* Of this thread's last call that failed. */
const char *vcpu_last_error(void);

/* Privilege level 0, where there are ports.  Slow on machines that emulate it. */
#define VCPU_VM_F_LEVEL0 0x1u
/*
 * Wrong, for tests that have to find it: MMIO exits are answered with zeros, as monitors
 * do for devices that are not there.
 */
#define VCPU_VM_F_ANSWER_MMIO 0x2u

/*
 * A virtual machine with @nr_vcpus vCPUs, which reaches the program's code and data.
 * Return: 0; -EOPNOTSUPP there is no KVM; -EINVAL; -ENOMEM; else an errno of KVM's.
 */
int vcpu_vm_create(uint32_t nr_vcpus, uint32_t flags, struct vcpu_vm **out);
/* Nobody is inside vcpu_run().  NULL is nothing. */
void vcpu_vm_destroy(struct vcpu_vm *vm);

/*
 * Let the guest reach [addr, addr + len_bytes) at the same addresses: a memory slot.
 * Whole pages.  The mapping behind it may be replaced while it is mapped here, as KVM
 * follows the host's page tables.  Threads: any, one at a time.  vCPUs may run.
 *
 * Return: 0; -EINVAL unaligned or empty; -EEXIST overlaps what is mapped; -ENOSPC
 * there is no room in the guest's physical addresses; -ENOMEM; else an errno of KVM's.
 */
int vcpu_vm_map(struct vcpu_vm *vm, const void *addr, uint64_t len_bytes, bool writable);
/*
 * The reverse, of a range as it was mapped: nothing of it is reached any more when this
 * returns.  A vCPU that touches it all the same is at an end (-EIO).
 * Return: 0; -ENOENT
 */
int vcpu_vm_unmap(struct vcpu_vm *vm, const void *addr);

uint32_t vcpu_vm_nr(const struct vcpu_vm *vm);
struct vcpu *vcpu_vm_vcpu(struct vcpu_vm *vm, uint32_t index);

/*
 * Run @fn(@arg) on the vCPU, on this thread; one thread at a time.  Signals of others
 * are handled between, and do not end it.
 *
 * Return: 0 and *@result (may be NULL) when @fn has returned.
 * -EHWPOISON: it touched a page that has failed.  The thread got SIGBUS, which
 *   vcpu_sigbus() took note of; vcpu_fault_addr() is where.  @fn was left in the middle,
 *   and the vCPU can run another.
 * -EFAULT: the same where the kernel does not say which page: memory that was made
 *   inaccessible, that lies beyond the end of its file, or that is resolved in context.
 * -EIO: the vCPU did what it may not (vcpu_last_error() says what), and is at an end:
 *   every later call fails with -EIO.  In particular KVM asked this program for the
 *   contents of memory (an MMIO exit inside a slot), which nobody can give: answered it
 *   would have read what is not there.
 * else: an errno of KVM_RUN's; the vCPU is at an end.
 */
int vcpu_run(struct vcpu *v, vcpu_fn fn, void *arg, uint64_t *result);

/* Of the last vcpu_run() that returned -EHWPOISON. */
uint64_t vcpu_fault_addr(const struct vcpu *v);

/*
 * In a handler of SIGBUS: true when the signal is about a page of the vCPU that this
 * thread runs; then return, and vcpu_run() does.  Async-signal-safe.
 */
bool vcpu_sigbus(const siginfo_t *info);
/* For programs without a handler of their own: all other SIGBUS end the program. */
int vcpu_sigbus_install(void);

/*
 * The time stamp counter is the host's: what a vCPU reads can be compared with what
 * other vCPUs and the program's threads read.  False where this machine cannot: before
 * Linux 5.16 it lags by the time that setting it takes.
 */
bool vcpu_vm_tsc_is_host(const struct vcpu_vm *vm);

/*
 * For code in the guest and outside.
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

/* CLOCK_MONOTONIC as of a time stamp; exact to some 100 us a second. */
struct vcpu_clock {
	uint64_t tsc, ns;   /* the same moment */
	uint64_t ns_by_tsc; /* times 2 to the 32nd */
};

__extension__ typedef unsigned __int128 vcpu_u128;

/* Takes 20 ms, to see how fast the counter counts. */
void vcpu_clock_init(struct vcpu_clock *c);

static inline uint64_t vcpu_clock_ns(const struct vcpu_clock *c)
{
	vcpu_u128 passed = vcpu_rdtsc() - c->tsc;

	return c->ns + (uint64_t)((passed * c->ns_by_tsc) >> 32);
}

/*
 * In the guest: reads 4 bytes by an instruction that KVM emulates on every machine (a
 * string output), some 20 us each.  Needs VCPU_VM_F_LEVEL0.  Where the memory cannot be
 * had there is no SIGBUS, but an MMIO exit.
 */
uint32_t vcpu_load_emulated(const uint32_t *from);

#ifdef __cplusplus
}
#endif

#endif
