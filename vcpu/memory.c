/* SPDX-License-Identifier: MIT */
/*
 * The guest's memory: slots, and page tables that map each process address to itself.
 *
 * Guest physical addresses may have fewer bits than the process's addresses, so
 * ranges are placed one after the other, congruent modulo 2 MiB.  Then the guest's
 * tables need one entry per 2 MiB, and 4 KiB entries only at the ends of a range.  Accessed and
 * dirty bits are preset, so that the processor never writes the tables while vCPUs run.
 */
#include "vcpu/memory.h"

#include "vcpu/error.h"
#include "vcpu/state.h"

#include <errno.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

/* KVM uses some addresses below 4 GiB itself. */
#define GPA_BEGIN (UINT64_C(4) << 30)
#define TABLES_MAX 16384u
#define ENTRIES 512u

#define PRESENT UINT64_C(0x001)
#define WRITABLE UINT64_C(0x002)
#define USER UINT64_C(0x004)
#define USED UINT64_C(0x060) /* accessed and dirty */
#define LARGE UINT64_C(0x080)
#define ADDRESS UINT64_C(0x000ffffffffff000)

static uint64_t *table_at(const struct vcpu_vm *vm, uint64_t gpa)
{
	return vm->tables + (gpa - GPA_BEGIN) / sizeof(uint64_t);
}

uint64_t vcpu_memory_root(const struct vcpu_vm *vm)
{
	(void)vm;
	return GPA_BEGIN;
}

static int set_slot(struct vcpu_vm *vm, uint32_t slot, const struct vcpu_range *r)
{
	struct kvm_userspace_memory_region m = {
		.slot = slot,
		.guest_phys_addr = r->gpa,
		.memory_size = r->len_bytes,
		.userspace_addr = r->addr,
	};

	return ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &m) ? -errno : 0;
}

/*
 * The page-table entry for @addr at @level (1: 4 KiB, 2: 2 MiB), creating the tables above it.
 * NULL: no table is left.
 */
static uint64_t *get_entry(struct vcpu_vm *vm, uint64_t addr, uint32_t level)
{
	uint64_t *table = vm->tables;

	for (uint32_t at = 4;; at--) {
		uint64_t *e = &table[(addr >> (12 + 9 * (at - 1))) % ENTRIES];

		if (at == level)
			return e;
		if (!(*e & PRESENT)) {
			if (vm->nr_tables == TABLES_MAX)
				return NULL;
			*e = (GPA_BEGIN + vm->nr_tables++ * VCPU_PAGE) | PRESENT | WRITABLE | USER |
			     USED;
		}
		table = table_at(vm, *e & ADDRESS);
	}
}

/* Map or unmap a range, with 2 MiB entries where it covers all of them. */
static int set_entries(struct vcpu_vm *vm, const struct vcpu_range *r, bool present)
{
	uint64_t flags = PRESENT | USER | USED | (r->writable ? WRITABLE : 0), step;

	for (uint64_t at = 0; at < r->len_bytes; at += step) {
		uint64_t addr = r->addr + at, value = (r->gpa + at) | flags, *e;
		bool large = addr % VCPU_LARGE == 0 && r->len_bytes - at >= VCPU_LARGE;

		step = large ? VCPU_LARGE : VCPU_PAGE;
		e = get_entry(vm, addr, large ? 2 : 1);
		if (!e)
			return -ENOMEM;
		if (large && (*e & (PRESENT | LARGE)) == PRESENT) {
			/* A table of 4 KiB entries was created here before: keep using it. */
			step = VCPU_PAGE;
			e = get_entry(vm, addr, 1);
			large = false;
		}
		__atomic_store_n(e, present ? value | (large ? LARGE : 0) : 0, __ATOMIC_RELEASE);
	}
	return 0;
}

/* The first free guest physical range of @len_bytes, congruent to @addr; 0: none. */
static uint64_t find_free_gpa(const struct vcpu_vm *vm, uint64_t addr, uint64_t len_bytes)
{
	uint64_t gpa = GPA_BEGIN + TABLES_MAX * VCPU_PAGE + addr % VCPU_LARGE;

	for (uint32_t i = 0; i < vm->nr_ranges; i++) {
		const struct vcpu_range *r = &vm->ranges[i];

		if (r->len_bytes == 0 || gpa + len_bytes <= r->gpa || gpa >= r->gpa + r->len_bytes)
			continue;
		gpa = ((r->gpa + r->len_bytes + VCPU_LARGE - 1) & ~(VCPU_LARGE - 1)) +
		      addr % VCPU_LARGE;
		i = UINT32_MAX; /* restart: an earlier range may overlap the new address */
	}
	return gpa + len_bytes <= vm->gpa_end ? gpa : 0;
}

static struct vcpu_range *free_range(struct vcpu_vm *vm)
{
	for (uint32_t i = 0; i < vm->nr_ranges; i++) {
		if (vm->ranges[i].len_bytes == 0)
			return &vm->ranges[i];
	}
	if (vm->nr_ranges == vm->max_ranges) {
		uint32_t max = vm->max_ranges ? 2 * vm->max_ranges : 16;
		struct vcpu_range *more = realloc(vm->ranges, max * sizeof(*more));

		if (!more)
			return NULL;
		vm->ranges = more;
		vm->max_ranges = max;
	}
	vm->ranges[vm->nr_ranges] = (struct vcpu_range){ .len_bytes = 0 };
	return &vm->ranges[vm->nr_ranges++];
}

/* Slot 0 holds the page tables. */
static uint32_t slot_of(const struct vcpu_vm *vm, const struct vcpu_range *r)
{
	return (uint32_t)(r - vm->ranges) + 1;
}

static int map_locked(struct vcpu_vm *vm, struct vcpu_range want)
{
	struct vcpu_range *r;
	int rc;

	for (uint32_t i = 0; i < vm->nr_ranges; i++) {
		r = &vm->ranges[i];
		if (r->len_bytes && want.addr < r->addr + r->len_bytes &&
		    r->addr < want.addr + want.len_bytes)
			return vcpu_fail(-EEXIST, "0x%llx is already mapped in the guest",
					 (unsigned long long)want.addr);
	}
	want.gpa = find_free_gpa(vm, want.addr, want.len_bytes);
	if (!want.gpa)
		return vcpu_fail(-ENOSPC,
				 "%llu bytes do not fit into the guest's physical addresses, "
				 "which end at 0x%llx: map less",
				 (unsigned long long)want.len_bytes,
				 (unsigned long long)vm->gpa_end);
	r = free_range(vm);
	if (!r)
		return vcpu_fail(-ENOMEM, "no memory for the list of slots");
	rc = set_slot(vm, slot_of(vm, r), &want);
	if (rc)
		return vcpu_fail(rc, "KVM refuses a slot for %llu bytes at 0x%llx: %s",
				 (unsigned long long)want.len_bytes, (unsigned long long)want.addr,
				 strerror(-rc));
	*r = want;
	rc = set_entries(vm, r, true);
	if (rc) {
		struct vcpu_range gone = *r;

		(void)set_entries(vm, r, false);
		gone.len_bytes = 0;
		(void)set_slot(vm, slot_of(vm, r), &gone);
		r->len_bytes = 0;
		return vcpu_fail(rc, "the guest's page tables are full: map less");
	}
	return 0;
}

int vcpu_vm_map(struct vcpu_vm *vm, const void *addr, uint64_t len_bytes, bool writable)
{
	struct vcpu_range want = { .addr = (uint64_t)(uintptr_t)addr,
				   .len_bytes = len_bytes,
				   .writable = writable };
	int rc;

	if (want.addr % VCPU_PAGE || len_bytes % VCPU_PAGE || len_bytes == 0 ||
	    want.addr + len_bytes > UINT64_C(1) << 47)
		return vcpu_fail(
			-EINVAL,
			"0x%llx, %llu bytes: the range must consist of whole pages of 4 KiB "
			"below 2^47",
			(unsigned long long)want.addr, (unsigned long long)len_bytes);
	(void)pthread_mutex_lock(&vm->lock);
	rc = map_locked(vm, want);
	(void)pthread_mutex_unlock(&vm->lock);
	return rc;
}

int vcpu_memory_map_doorbell(struct vcpu_vm *vm, const void *addr)
{
	struct vcpu_range r = { .addr = (uint64_t)(uintptr_t)addr,
				.len_bytes = VCPU_PAGE,
				.gpa = VCPU_DOORBELL_GPA,
				.writable = true };

	return set_entries(vm, &r, true);
}

int vcpu_vm_unmap(struct vcpu_vm *vm, const void *addr)
{
	struct vcpu_range *r = NULL, gone;
	int rc = 0;

	(void)pthread_mutex_lock(&vm->lock);
	for (uint32_t i = 0; i < vm->nr_ranges && !r; i++) {
		if (vm->ranges[i].len_bytes && vm->ranges[i].addr == (uint64_t)(uintptr_t)addr)
			r = &vm->ranges[i];
	}
	if (!r) {
		rc = vcpu_fail(-ENOENT, "0x%llx is not the beginning of a mapped range",
			       (unsigned long long)(uintptr_t)addr);
	} else {
		/* Clear the tables first: removing the slot flushes cached translations. */
		(void)set_entries(vm, r, false);
		gone = *r;
		gone.len_bytes = 0;
		rc = set_slot(vm, slot_of(vm, r), &gone);
		if (rc)
			rc = vcpu_fail(rc, "KVM refuses to remove a slot: %s", strerror(-rc));
		r->len_bytes = 0;
	}
	(void)pthread_mutex_unlock(&vm->lock);
	return rc;
}

uint64_t vcpu_memory_find(struct vcpu_vm *vm, uint64_t gpa)
{
	uint64_t found = 0;

	/* The lock is needed because free_range() may move the array. */
	(void)pthread_mutex_lock(&vm->lock);
	for (uint32_t i = 0; i < vm->nr_ranges && !found; i++) {
		const struct vcpu_range *r = &vm->ranges[i];

		if (gpa >= r->gpa && gpa - r->gpa < r->len_bytes)
			found = r->addr + (gpa - r->gpa);
	}
	(void)pthread_mutex_unlock(&vm->lock);
	return found;
}

/* Map the program itself (the first object): its code, constants and data. */
static int map_program(struct dl_phdr_info *info, size_t size, void *arg)
{
	struct vcpu_vm *vm = arg;
	uint64_t end_before = 0;

	(void)size;
	for (uint32_t i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *p = &info->dlpi_phdr[i];
		uint64_t addr = info->dlpi_addr + p->p_vaddr, end = addr + p->p_memsz;
		int rc;

		if (p->p_type != PT_LOAD || p->p_memsz == 0)
			continue;
		addr &= ~(VCPU_PAGE - 1);
		end = (end + VCPU_PAGE - 1) & ~(VCPU_PAGE - 1);
		if (addr < end_before)
			addr = end_before;
		end_before = end;
		if (addr == end)
			continue;
		/* NOLINTNEXTLINE(performance-no-int-to-ptr) */
		rc = vcpu_vm_map(vm, (const void *)(uintptr_t)addr, end - addr,
				 (p->p_flags & PF_W) != 0);
		if (rc)
			return rc;
	}
	return 1;
}

int vcpu_memory_init(struct vcpu_vm *vm)
{
	struct vcpu_range tables = { .gpa = GPA_BEGIN, .len_bytes = TABLES_MAX * VCPU_PAGE };
	void *p = mmap(NULL, tables.len_bytes, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	int rc;

	if (p == MAP_FAILED)
		return vcpu_fail(-ENOMEM, "no memory for the guest's page tables");
	(void)madvise(p, tables.len_bytes, MADV_DONTFORK);
	vm->tables = p;
	vm->nr_tables = 1;
	tables.addr = (uint64_t)(uintptr_t)p;
	rc = set_slot(vm, 0, &tables);
	if (rc)
		return vcpu_fail(rc, "KVM refuses a slot for page tables: %s", strerror(-rc));
	rc = dl_iterate_phdr(map_program, vm);
	return rc < 0 ? rc : 0;
}

void vcpu_memory_deinit(struct vcpu_vm *vm)
{
	if (vm->tables)
		(void)munmap(vm->tables, TABLES_MAX * VCPU_PAGE);
	free(vm->ranges);
}
