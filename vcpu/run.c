/* SPDX-License-Identifier: MIT */
/* A vCPU runs: what it exits for, and what its thread's SIGBUS means. */
#include "vcpu/error.h"
#include "vcpu/memory.h"
#include "vcpu/regs.h"
#include "vcpu/state.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>

/* The one that this thread runs.  Read in a handler, so it has its place from the start. */
static _Thread_local struct vcpu *volatile running __attribute__((tls_model("initial-exec")));

bool vcpu_sigbus(const siginfo_t *info)
{
	struct vcpu *v = running;

	/* While a vCPU runs no code here touches guest memory; what is not there is BUS_ADRERR. */
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
	if (!vcpu_sigbus(info))
		(void)sigaction(signo, &dfl, NULL); /* and the access is tried again */
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

static int end(struct vcpu *v, int rc)
{
	v->dead = true;
	return rc;
}

/* I6: what an answer says would be read as if it were there. */
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
		return end(v, vcpu_fail(-EIO,
					"KVM asks for %u bytes %s 0x%llx, which is memory: a page "
					"has failed, and an instruction that KVM emulates "
					"touched it; the vCPU is at an end",
					run->mmio.len, run->mmio.is_write ? "to write at" : "of",
					(unsigned long long)addr));
	return end(v, vcpu_fail(-EIO,
				"the guest touched the physical address 0x%llx, where "
				"nothing is mapped (any more)",
				(unsigned long long)gpa));
}

/* It has no handlers of its own, so an exception ends it. */
static int on_shutdown(struct vcpu *v)
{
	struct kvm_sregs s;
	struct kvm_regs r;

	if (ioctl(v->fd, KVM_GET_SREGS, &s) || ioctl(v->fd, KVM_GET_REGS, &r))
		return end(v, vcpu_fail(-EIO, "an exception in the guest"));
	return end(v, vcpu_fail(-EIO,
				"an exception in the guest at 0x%llx (last page fault: 0x%llx): "
				"was what it touched mapped, was it compiled for a guest?",
				(unsigned long long)r.rip, (unsigned long long)s.cr2));
}

/* Return: 0 when its function has returned; -EAGAIN: go on; else it is at an end. */
static int on_exit_reason(struct vcpu *v)
{
	struct kvm_run *run = v->run;

	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		if (run->io.port == VCPU_PORT_ECHO && run->io.size == 4 &&
		    run->io.direction == KVM_EXIT_IO_OUT && run->io.count == 1) {
			memcpy(&v->mail->echo, (char *)run + run->io.data_offset, 4);
			return -EAGAIN;
		}
		return end(v, vcpu_fail(-EIO, "the guest used port 0x%x", run->io.port));
	case KVM_EXIT_INTR:
	case KVM_EXIT_IRQ_WINDOW_OPEN:
		return -EAGAIN;
	case KVM_EXIT_MMIO:
		return on_mmio(v);
	case KVM_EXIT_SHUTDOWN:
		return on_shutdown(v);
	case KVM_EXIT_INTERNAL_ERROR:
		return end(v, vcpu_fail(-EIO, "KVM gave the vCPU up: internal error %u",
					run->internal.suberror));
	case KVM_EXIT_FAIL_ENTRY:
		return end(v, vcpu_fail(-EIO, "KVM cannot enter the vCPU: 0x%llx",
					(unsigned long long)
						run->fail_entry.hardware_entry_failure_reason));
	default:
		return end(v, vcpu_fail(-EIO, "an exit of the vCPU that is not expected: %u",
					run->exit_reason));
	}
}

/* It stays in the middle of a function: the next begins anew. */
static int leave_function(struct vcpu *v, int rc, const char *why)
{
	int err = vcpu_regs_restart(v);

	if (err)
		return end(v, vcpu_fail(err, "KVM refuses registers: %s", strerror(-err)));
	return vcpu_fail(rc, "%s", why);
}

static int run_to_end(struct vcpu *v)
{
	for (;;) {
		int rc = ioctl(v->fd, KVM_RUN, 0) ? -errno : on_exit_reason(v);

		if (v->poisoned) {
			/* The signal of a page; nothing else ends in one of these. */
			v->poisoned = 0;
			return leave_function(v, -EHWPOISON, "a page has failed");
		}
		switch (rc) {
		case -EINTR:
		case -EAGAIN:
			continue;
		case -EFAULT:
			return leave_function(v, rc,
					      "KVM cannot reach memory of the guest's, and "
					      "does not say where");
		case 0:
		case -EIO:
			return rc;
		default:
			return end(v, vcpu_fail(rc, "KVM_RUN: %s", strerror(-rc)));
		}
	}
}

int vcpu_run(struct vcpu *v, vcpu_fn fn, void *arg, uint64_t *result)
{
	int rc;

	if (v->dead)
		return vcpu_fail(-EIO, "the vCPU is at an end since an earlier run");
	v->mail->fn = fn;
	v->mail->arg = arg;
	v->poisoned = 0;
	running = v;
	rc = run_to_end(v);
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

/* The two read together: of some tries the one that was interrupted least. */
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
