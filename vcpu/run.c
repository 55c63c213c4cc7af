/* SPDX-License-Identifier: MIT */
/* Runs a vCPU: handles its exits, and SIGBUS in its thread. */
#include "vcpu/error.h"
#include "vcpu/memory.h"
#include "vcpu/regs.h"
#include "vcpu/state.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>

/* The vCPU that this thread runs.  Initial-exec, because the signal handler reads it. */
static _Thread_local struct vcpu *volatile running __attribute__((tls_model("initial-exec")));

bool vcpu_sigbus(const siginfo_t *info)
{
	struct vcpu *v = running;

	/*
	 * While a vCPU runs on this thread, the thread itself touches no guest memory.  So
	 * BUS_MCEERR_AR means that the vCPU touched a failed page.  For an access beyond the end
	 * of a file the code is BUS_ADRERR.
	 */
	if (!v || info->si_code != BUS_MCEERR_AR)
		return false;
	v->fault_addr = (uint64_t)(uintptr_t)info->si_addr;
	v->poisoned = 1;
	return true;
}

static void on_sigbus(int signo, siginfo_t *info, void *context)
{
	struct sigaction dfl = { .sa_handler = SIG_DFL };

	(void)context;
	/* Not ours: the access is retried with the default action, and kills the process. */
	if (!vcpu_sigbus(info))
		(void)sigaction(signo, &dfl, NULL);
}

int vcpu_sigbus_install(void)
{
	struct sigaction act = { .sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO };

	return sigaction(SIGBUS, &act, NULL) ? -errno : 0;
}

uint64_t vcpu_fault_addr(const struct vcpu *v)
{
	return v->fault_addr;
}

static int kill_vcpu(struct vcpu *v, int rc)
{
	v->dead = true;
	return rc;
}

/* I6: an answer would be taken for the contents of memory. */
static int on_mmio(struct vcpu *v)
{
	struct kvm_run *run = v->run;
	uint64_t gpa = run->mmio.phys_addr, addr;

	if (gpa == VCPU_DOORBELL_GPA && run->mmio.is_write)
		return 0;
	if (v->vm->answers_mmio) {
		memset(run->mmio.data, 0, sizeof(run->mmio.data));
		return -EAGAIN;
	}
	addr = vcpu_memory_find(v->vm, gpa);
	if (addr)
		return kill_vcpu(
			v, vcpu_fail(-EIO,
				     "MMIO exit for a %u-byte %s at 0x%llx, which is memory: an "
				     "instruction that KVM emulates touched a failed page; the "
				     "vCPU is dead",
				     run->mmio.len, run->mmio.is_write ? "write" : "read",
				     (unsigned long long)addr));
	return kill_vcpu(v, vcpu_fail(-EIO,
				      "the guest accessed the physical address 0x%llx, where "
				      "nothing is mapped now",
				      (unsigned long long)gpa));
}

/* The guest has no exception handlers, so any exception shuts it down. */
static int on_shutdown(struct vcpu *v)
{
	struct kvm_sregs s;
	struct kvm_regs r;

	if (ioctl(v->fd, KVM_GET_SREGS, &s) || ioctl(v->fd, KVM_GET_REGS, &r))
		return kill_vcpu(v, vcpu_fail(-EIO, "exception in the guest"));
	return kill_vcpu(
		v, vcpu_fail(-EIO,
			     "exception in the guest at 0x%llx (last page fault: 0x%llx): "
			     "check that its memory is mapped and its code compiled for guests",
			     (unsigned long long)r.rip, (unsigned long long)s.cr2));
}

/* Return: 0: the function has returned; -EAGAIN: run on; else the vCPU is dead. */
static int handle_exit(struct vcpu *v)
{
	struct kvm_run *run = v->run;

	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		if (run->io.port == VCPU_PORT_ECHO && run->io.size == 4 &&
		    run->io.direction == KVM_EXIT_IO_OUT && run->io.count == 1) {
			memcpy(&v->mail->echo, (char *)run + run->io.data_offset, 4);
			return -EAGAIN;
		}
		return kill_vcpu(v, vcpu_fail(-EIO, "the guest used port 0x%x", run->io.port));
	case KVM_EXIT_INTR:
	case KVM_EXIT_IRQ_WINDOW_OPEN:
		return -EAGAIN;
	case KVM_EXIT_MMIO:
		return on_mmio(v);
	case KVM_EXIT_SHUTDOWN:
		return on_shutdown(v);
	case KVM_EXIT_INTERNAL_ERROR:
		return kill_vcpu(v,
				 vcpu_fail(-EIO, "KVM internal error %u", run->internal.suberror));
	case KVM_EXIT_FAIL_ENTRY:
		return kill_vcpu(v, vcpu_fail(-EIO, "KVM cannot enter the vCPU: 0x%llx",
					      (unsigned long long)run->fail_entry
						      .hardware_entry_failure_reason));
	default:
		return kill_vcpu(v, vcpu_fail(-EIO, "unexpected exit reason %u of the vCPU",
					      run->exit_reason));
	}
}

/* Abandon the current function; the next run starts a new one. */
static int abandon_function(struct vcpu *v, int rc, const char *why)
{
	int err = vcpu_regs_restart(v);

	if (err)
		return kill_vcpu(v, vcpu_fail(err, "KVM refuses registers: %s", strerror(-err)));
	return vcpu_fail(rc, "%s", why);
}

static int run_until_return(struct vcpu *v)
{
	for (;;) {
		int rc = ioctl(v->fd, KVM_RUN, 0) ? -errno : handle_exit(v);

		if (v->poisoned) {
			/* SIGBUS for a failed page, which the handler has recorded. */
			v->poisoned = 0;
			return abandon_function(v, -EHWPOISON, "the vCPU touched a failed page");
		}
		switch (rc) {
		case -EINTR:
		case -EAGAIN:
			continue;
		case -EFAULT:
			return abandon_function(v, rc,
						"KVM cannot access guest memory (EFAULT, no "
						"address)");
		case 0:
		case -EIO:
			return rc;
		default:
			return kill_vcpu(v, vcpu_fail(rc, "KVM_RUN: %s", strerror(-rc)));
		}
	}
}

int vcpu_run(struct vcpu *v, vcpu_fn fn, void *arg, uint64_t *result)
{
	int rc;

	if (v->dead)
		return vcpu_fail(-EIO, "the vCPU died in an earlier run");
	v->mail->fn = fn;
	v->mail->arg = arg;
	v->poisoned = 0;
	running = v;
	rc = run_until_return(v);
	running = NULL;
	if (rc == 0 && result)
		*result = v->mail->result;
	return rc;
}

static uint64_t monotonic_ns(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* Read both clocks at once: of 20 tries, keep the one with the shortest interval. */
static void read_both(struct vcpu_clock *c)
{
	uint64_t best = UINT64_MAX;

	for (int i = 0; i < 20; i++) {
		uint64_t before = vcpu_rdtsc(), ns = monotonic_ns(), after = vcpu_rdtsc();

		if (after - before >= best)
			continue;
		best = after - before;
		c->tsc = before + best / 2;
		c->ns = ns;
	}
}

void vcpu_clock_init(struct vcpu_clock *c)
{
	struct timespec wait = { .tv_nsec = 20 * 1000 * 1000 };
	struct vcpu_clock first = { 0 };

	read_both(&first);
	(void)clock_nanosleep(CLOCK_MONOTONIC, 0, &wait, NULL);
	read_both(c);
	c->ns_by_tsc = (uint64_t)(((vcpu_u128)(c->ns - first.ns) << 32) / (c->tsc - first.tsc));
}
