/* SPDX-License-Identifier: MIT */
/* What the platform tests with a vCPU share: see kvm.h. */
#include "kvm.h"

struct vcpu_vm *plt_vm(uint32_t flags, void *mem, uint64_t len)
{
	struct vcpu_vm *vm;

	if (vcpu_unavailable())
		plt_skip("%s", vcpu_last_error());
	PLT_CHECK(vcpu_sigbus_install() == 0, "no handler of SIGBUS");
	PLT_CHECK(vcpu_vm_create(1, flags, &vm) == 0, "%s", vcpu_last_error());
	PLT_CHECK(vcpu_vm_map(vm, mem, len, true) == 0, "%s", vcpu_last_error());
	return vm;
}

static int do_run(struct plt_task *task)
{
	struct plt_run *r = task->to;

	r->rc = vcpu_run(r->vcpu, r->fn, r->arg, &r->result);
	(void)snprintf(r->error, sizeof(r->error), "%s", r->rc ? vcpu_last_error() : "");
	return 0;
}

void plt_run_start(struct plt_run *r, struct vcpu_vm *vm, vcpu_fn fn, void *arg)
{
	*r = (struct plt_run){ .vcpu = vcpu_vm_vcpu(vm, 0), .fn = fn, .arg = arg };
	r->task.fn = do_run;
	r->task.to = r;
	plt_task_start(&r->task);
}

void plt_run_expect(struct plt_run *r, int rc, const char *what)
{
	(void)plt_task_wait(&r->task, what);
	PLT_CHECK(r->rc == rc, "%s: expected %d, the run ended with %d (%s)", what, rc, r->rc,
		  r->error);
}

uint64_t plt_run_once(uint32_t flags, void *mem, uint64_t len, vcpu_fn fn, void *arg, int rc,
		      const char *what)
{
	struct vcpu_vm *vm = plt_vm(flags, mem, len);
	struct plt_run r;

	plt_run_start(&r, vm, fn, arg);
	plt_run_expect(&r, rc, what);
	if (rc == -EHWPOISON)
		r.result = vcpu_fault_addr(r.vcpu);
	if (rc == -EIO)
		PLT_CHECK(strstr(r.error, "KVM asks for"), "%s: no MMIO exit, but: %s", what,
			  r.error);
	vcpu_vm_destroy(vm);
	return r.result;
}

/* Two pages that are there, and then the one that is not. */
#define LEN (4 * PLT_PAGE)
#define AT (2 * PLT_PAGE)

static struct plt_denied denied(const char *how, int fd)
{
	struct plt_denied d = { .how = how, .len = LEN };

	d.mem = plt_map(fd, LEN, MAP_SHARED);
	d.at = d.mem + AT;
	return d;
}

struct plt_denied plt_deny_none(void)
{
	struct plt_denied d;
	int fd = plt_memfd(LEN);

	plt_fill(fd, 0, 4, 0x91);
	d = denied("PROT_NONE", fd);
	PLT_CHECK(mprotect(d.at, PLT_PAGE, PROT_NONE) == 0, "mprotect: %s", strerror(errno));
	return d;
}

struct plt_denied plt_deny_end(void)
{
	struct plt_denied d;
	int fd = plt_memfd(LEN);

	plt_fill(fd, 0, 2, 0x92);
	d = denied("beyond the end of the file", fd);
	PLT_CHECK(ftruncate(fd, (off_t)AT) == 0, "ftruncate: %s", strerror(errno));
	return d;
}

struct plt_denied plt_deny_sigbus(void)
{
	int uffd = plt_uffd(UFFD_FEATURE_MINOR_SHMEM | UFFD_FEATURE_SIGBUS), fd = plt_memfd(LEN);
	struct plt_denied d;

	plt_fill(fd, 0, 4, 0x93);
	d = denied("a userfaultfd in SIGBUS mode", fd);
	plt_register(uffd, d.mem, LEN, PLT_BOTH);
	plt_expect_err(plt_continue(uffd, d.mem, AT, 0, NULL), 0, "CONTINUE");
	return d;
}

struct plt_denied plt_deny_poison(void)
{
	int uffd = plt_uffd(UFFD_FEATURE_MINOR_SHMEM | UFFD_FEATURE_POISON), fd = plt_memfd(LEN);
	struct plt_denied d;

	plt_fill(fd, 0, 4, 0x94);
	d = denied("poison", fd);
	plt_poisonable(uffd, d.mem, LEN, PLT_BOTH);
	plt_expect_err(plt_continue(uffd, d.mem, AT, 0, NULL), 0, "CONTINUE");
	plt_expect_err(plt_poison(uffd, d.at, PLT_PAGE, 0, NULL), 0, "POISON");
	return d;
}
