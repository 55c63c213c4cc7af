/* SPDX-License-Identifier: MIT */
/*
 * The in-context regions of the process, by address.
 *
 * A signal handler knows only an address, so there is one sorted array for all engines and
 * guests.  It is read under RCU, and replaced when a region is added.  Removing a region clears
 * its entry in place, which cannot fail; the next replacement drops cleared entries.
 */
#include "engine/context/registry.h"

#include "base/error.h"
#include "base/lock.h"
#include "base/page.h"
#include "base/rcu.h"
#include "engine/state/guest.h"

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/mman.h>

struct entry {
	uint64_t addr, end;
	_Atomic(struct fln_region *) region; /* NULL: removed */
};

struct registry {
	uint64_t nr;
	size_t bytes;
	struct entry entries[];
};

/* Serialises writers.  A leaf lock: nothing is called under it. */
static struct fln_lock registry_lock = { .mutex = PTHREAD_MUTEX_INITIALIZER,
					 .rank = FLN_RANK_LEAF };
static _Atomic(struct registry *) regions;
static _Atomic uint64_t nr_left;

uint64_t fln_context_nr_left(void)
{
	return atomic_load_explicit(&nr_left, memory_order_acquire);
}

struct fln_region *fln_context_find(uint64_t addr)
{
	struct registry *g = atomic_load_explicit(&regions, memory_order_acquire);
	uint64_t lo = 0, hi = g ? g->nr : 0;

	fln_rcu_assert_reading();
	while (lo < hi) {
		uint64_t mid = lo + (hi - lo) / 2;

		if (g->entries[mid].end <= addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (!g || lo == g->nr || addr < g->entries[lo].addr)
		return NULL;
	return atomic_load_explicit(&g->entries[lo].region, memory_order_acquire);
}

static void append(struct registry *g, uint64_t addr, uint64_t end, struct fln_region *region)
{
	struct entry *e = &g->entries[g->nr++];

	e->addr = addr;
	e->end = end;
	atomic_store_explicit(&e->region, region, memory_order_relaxed);
}

/* Copy the regions of @old to @g, and insert @region in order. */
static void merge(struct registry *g, struct registry *old, struct fln_region *region)
{
	uint64_t at = 0, nr = old ? old->nr : 0;

	for (; at < nr && old->entries[at].addr < region->addr; at++) {
		struct fln_region *r = atomic_load(&old->entries[at].region);

		if (r)
			append(g, r->addr, r->addr + r->len_bytes, r);
	}
	append(g, region->addr, region->addr + region->len_bytes, region);
	for (; at < nr; at++) {
		struct fln_region *r = atomic_load(&old->entries[at].region);

		if (r)
			append(g, r->addr, r->addr + r->len_bytes, r);
	}
}

/*
 * Where part of a region was unmapped or moved away, the kernel may place a region of another
 * guest.  An address in both would be ambiguous, so overlapping regions are refused.
 */
static const struct fln_region *overlapping(const struct registry *g,
					    const struct fln_region *region)
{
	for (uint64_t i = 0; g && i < g->nr; i++) {
		const struct fln_region *r = atomic_load(&g->entries[i].region);

		if (r && r->addr < region->addr + region->len_bytes &&
		    region->addr < r->addr + r->len_bytes)
			return r;
	}
	return NULL;
}

/* By mmap(): the array is the process's, and may outlive any engine and its allocator. */
static struct registry *reserve(uint64_t nr)
{
	size_t bytes = sizeof(struct registry) + nr * sizeof(struct entry);
	struct registry *g;

	bytes = (size_t)fln_align_up(bytes, FLN_PAGE_BYTES);
	g = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (g == MAP_FAILED)
		return NULL;
	g->bytes = bytes;
	return g;
}

int fln_context_enter_region(struct fln_region *region)
{
	struct registry *old, *g = NULL;
	uint64_t addr = 0, end = 0;
	const struct fln_region *other;

	fln_lock(&registry_lock);
	old = atomic_load_explicit(&regions, memory_order_relaxed);
	other = overlapping(old, region);
	if (other) {
		addr = other->addr;
		end = addr + other->len_bytes;
	} else {
		g = reserve((old ? old->nr : 0) + 1);
	}
	if (g) {
		merge(g, old, region);
		atomic_store_explicit(&regions, g, memory_order_release);
	}
	fln_unlock(&registry_lock);
	if (other)
		return fln_fail(EEXIST,
				"region: [0x%" PRIx64 ", 0x%" PRIx64 ") overlaps the in-context "
				"region [0x%" PRIx64 ", 0x%" PRIx64 ") of a guest of this process; "
				"remove that region first, or choose another address",
				region->addr, region->addr + region->len_bytes, addr, end);
	if (!g)
		return fln_fail(ENOMEM, "region: no memory to register an in-context region");
	if (old) {
		fln_rcu_synchronize();
		(void)munmap(old, old->bytes);
	}
	return 0;
}

void fln_context_leave_region(struct fln_region *region)
{
	bool found = false;
	struct registry *g;

	fln_lock(&registry_lock);
	g = atomic_load_explicit(&regions, memory_order_relaxed);
	for (uint64_t i = 0; g && i < g->nr; i++) {
		if (atomic_load(&g->entries[i].region) != region)
			continue;
		/* In this order: a thread that finds no region sees that nr_left has changed. */
		atomic_fetch_add_explicit(&nr_left, 1, memory_order_relaxed);
		atomic_store_explicit(&g->entries[i].region, NULL, memory_order_release);
		found = true;
	}
	fln_unlock(&registry_lock);
	if (found)
		fln_rcu_synchronize();
}
