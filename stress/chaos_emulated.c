/* SPDX-License-Identifier: MIT */
/*
 * A vCPU reads by instructions that KVM emulates.  KVM then accesses the memory as a system
 * call does: the faults are taken in the kernel, and a failed page raises no signal but an MMIO
 * exit, which must not be answered.  The vCPU cannot continue after that, so each step creates a
 * virtual machine of its own.
 */
#include "stress/chaos_emulated.h"

#include "stress/complain.h"
#include "stress/guest.h"
#include "stress/stress.h"

#include "base/plant.h"

#include <errno.h>
#include <string.h>

/* Static, because every guest maps the program's data. */
static uint64_t words[PAGE_WORDS];
static struct guest_copy copy;

/* Only this error of vcpu_run() is accepted where a page has failed. */
static bool ended_by_mmio(void)
{
	return strstr(vcpu_last_error(), "KVM asks for") != NULL;
}

/* @rc is vcpu_run()'s; what was read, if anything, is in words. */
static void judge(struct stress *s, uint64_t page, uint64_t begun, int rc)
{
	bool right = model_end_read(&s->model, page, begun, rc == 0 ? words : NULL);
	char buf[128];

	if (rc == 0 && !right)
		complain(s, "page %llu reads %016llx by an emulated instruction, where %s is due",
			 (unsigned long long)page, (unsigned long long)words[0],
			 model_describe(&s->model, page, buf, sizeof(buf)));
	else if (rc == 0 && stress_is_dead(s, page))
		complain(s, "page %llu was read by an emulated instruction, and has failed",
			 (unsigned long long)page);
	else if (rc != 0 && !(rc == -EIO && stress_is_dead(s, page) && ended_by_mmio()))
		complain(s, "page %llu by an emulated instruction: %s, where %s is due",
			 (unsigned long long)page, vcpu_last_error(),
			 model_describe(&s->model, page, buf, sizeof(buf)));
}

static void read_one(struct stress *s, struct vcpu *v, uint64_t page)
{
	uint64_t begun;

	if (!model_begin_read(&s->model, page, &begun))
		return;
	copy.from = (const uint64_t *)(const void *)(atomic_load(&s->base) + page * PAGE_BYTES);
	copy.to = words;
	judge(s, page, begun, vcpu_run(v, guest_copy_emulated, &copy, NULL));
}

bool chaos_emulated(struct stress *s, struct rng *rng)
{
	uint64_t page = rng_below(rng, s->nr_pages);
	bool dead = rng_below(rng, 2) == 0 && s->source.dead_page != UINT64_MAX;
	uint32_t flags = VCPU_VM_F_LEVEL0;
	struct vcpu_vm *vm;

	if (fln_planted(FLN_BUG_MMIO_ANSWERED))
		flags |= VCPU_VM_F_ANSWER_MMIO;
	/* Refused where descriptors or mappings have run out. */
	if (vcpu_vm_create(1, flags, &vm) != 0)
		return false;
	if (vcpu_vm_map(vm, atomic_load(&s->base), s->opts.memory_bytes, true) != 0) {
		vcpu_vm_destroy(vm);
		return false;
	}
	read_one(s, vcpu_vm_vcpu(vm, 0), dead ? s->source.dead_page : page);
	vcpu_vm_destroy(vm);
	return true;
}
