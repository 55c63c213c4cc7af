/* SPDX-License-Identifier: MIT */
/*
 * --guest kvm: each toucher's thread runs a vCPU; guest.c touches, verifies and writes inside
 * the guest.  This file is the monitor's side: slots, exits, reports.
 *
 * As in a monitor, the slot exists only while the region does: it is created after the guest has
 * started, and deleted before the guest is destroyed, with all vCPUs outside.
 */
#include "stress/vcpus.h"

#include "stress/complain.h"
#include "stress/gate.h"
#include "stress/guest.h"
#include "stress/stress.h"
#include "stress/touch.h"

#include <errno.h>

static int failed(const char *what, int rc)
{
	(void)fprintf(stderr, "faultlane-stress: %s: %s\n", what, vcpu_last_error());
	return rc;
}

int vcpus_create(struct stress *s)
{
	int rc = vcpu_vm_create(s->opts.nr_threads, 0, &s->vm);

	if (rc)
		return failed("vCPUs", rc);
	vcpu_clock_init(&s->clock);
	/* The program's data, including struct stress, is mapped already. */
	rc = vcpu_vm_map(s->vm, s->touchers, s->touchers_bytes, true);
	if (rc == 0)
		rc = vcpu_vm_map(s->vm, s->model.pages, s->model.nr_pages * sizeof(*s->model.pages),
				 true);
	return rc ? failed("vCPUs", rc) : 0;
}

void vcpus_destroy(struct stress *s)
{
	vcpu_vm_destroy(s->vm);
	s->vm = NULL;
}

int vcpus_map_memory(struct stress *s)
{
	int rc = s->vm ? vcpu_vm_map(s->vm, atomic_load(&s->base), s->opts.memory_bytes, true) : 0;

	return rc ? failed("slot", rc) : 0;
}

int vcpus_unmap_memory(struct stress *s)
{
	int rc = s->vm ? vcpu_vm_unmap(s->vm, atomic_load(&s->base)) : 0;

	return rc ? failed("slot", rc) : 0;
}

uint64_t touch_now_ns(const struct stress *s)
{
	return s->opts.kvm ? vcpu_clock_ns(&s->clock) : now_ns();
}

/* Tell the model that the current touch did not happen. */
static void undo_touch(struct toucher *t)
{
	enum touch_kind kind = atomic_load(&t->doing);
	uint64_t page = atomic_load(&t->page);

	if (kind == TOUCH_READS)
		(void)model_end_read(&t->s->model, page, t->begun, NULL);
	else if (kind == TOUCH_WRITES)
		model_end_write(&t->s->model, page, false);
	atomic_store(&t->doing, TOUCH_NOTHING);
}

/* After a touch of a failed page (SIGBUS in the monitor): the vCPU continues with the next page. */
static void after_poison(struct toucher *t, const struct vcpu *v, int rc)
{
	struct stress *s = t->s;
	uint64_t page = atomic_load(&t->page), since = atomic_load(&t->since_ns);
	uint64_t at = (uint64_t)(uintptr_t)atomic_load(&s->base) + page * PAGE_BYTES;

	if (atomic_load(&t->doing) == TOUCH_NOTHING)
		complain(s, "vCPU %u: %s, and it touched no memory of the guest", t->index,
			 vcpu_last_error());
	else if (rc == -EHWPOISON && (vcpu_fault_addr(v) & ~(uint64_t)(PAGE_BYTES - 1)) != at)
		complain(s, "vCPU %u: the signal is about 0x%llx, and it touched 0x%llx", t->index,
			 (unsigned long long)vcpu_fault_addr(v), (unsigned long long)at);
	undo_touch(t);
	touch_after_signal(t, page, SIGBUS, false);
	touch_end(t, touch_now_ns(s) - since);
}

/* False: all touches are made, or the vCPU cannot continue. */
static bool after_run(struct toucher *t, const struct vcpu *v, int rc, uint64_t why)
{
	switch (rc) {
	case 0:
		break;
	case -EHWPOISON:
	case -EFAULT: /* kernels before 6.6: the page is inaccessible, not poisoned */
		after_poison(t, v, rc);
		return true;
	default:
		complain(t->s, "vCPU %u: %s", t->index, vcpu_last_error());
		undo_touch(t);
		touch_end(t, 0);
		return false;
	}
	switch ((enum guest_end)why) {
	case GUEST_GATE:
		gate_wait(t);
		return true;
	case GUEST_WRONG:
		touch_describe_wrong(t, atomic_load(&t->page));
		return true;
	case GUEST_DONE:
	default:
		return false;
	}
}

void *vcpu_toucher_main(void *toucher)
{
	struct toucher *t = toucher;
	struct vcpu *v = vcpu_vm_vcpu(t->s->vm, t->index);
	uint64_t why = GUEST_DONE;
	int rc;

	atomic_store(&t->tid, gettid());
	do
		rc = vcpu_run(v, guest_touch, t, &why);
	while (after_run(t, v, rc, why) && !atomic_load(&t->s->stop));
	atomic_store(&t->gone, true);
	return NULL;
}
