/* SPDX-License-Identifier: MIT */
/* The library's own part of a fault: page-state maps, stripe plans, batches, histograms. */
#include "base/blockmap.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/histogram.h"
#include "base/page.h"
#include "base/rcu.h"
#include "bench/micro/subject.h"
#include "engine/region_map.h"
#include "engine/serve.h"
#include "engine/state/worker.h"
#include "engine/worker.h"
#include "sharding/stripes.h"

#include <faultlane/base.h>
#include <faultlane/stats.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/resource.h>

#define NR_BLOCKS 512u
#define NR_CHUNKS 4096u
#define PLAN_ADDR (UINT64_C(1) << 32)
#define PLAN_BLOCKS 4096u

const char *micro_error(void)
{
	return fln_last_error();
}

double micro_cpu_ns(void)
{
	struct rusage r;

	(void)getrusage(RUSAGE_SELF, &r);
	return (double)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) * 1e9 +
	       (double)(r.ru_utime.tv_usec + r.ru_stime.tv_usec) * 1e3;
}

int micro_nr_cpus(void)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	(void)sched_getaffinity(0, sizeof(set), &set);
	return CPU_COUNT(&set);
}

bool micro_pin(int cpu)
{
	static cpu_set_t first;
	static bool known;
	cpu_set_t set;

	if (!known)
		(void)sched_getaffinity(0, sizeof(first), &first);
	known = true;
	CPU_ZERO(&set);
	if (cpu < 0)
		set = first;
	for (uint32_t i = 0, nth = 0; cpu >= 0 && i < CPU_SETSIZE; i++) {
		if (CPU_ISSET(i, &first) && nth++ == (uint32_t)cpu)
			CPU_SET(i, &set);
	}
	return sched_setaffinity(0, sizeof(set), &set) == 0;
}

struct micro_map {
	struct fln_blockmap map;
	bool entered;
};

struct micro_map *micro_map_new(void)
{
	struct micro_map *m = calloc(1, sizeof(*m));

	if (!m)
		return NULL;
	if (fln_blockmap_init(&m->map, 0, (uint64_t)NR_BLOCKS * FLN_BLOCK_PAGES, NR_CHUNKS, 0)) {
		free(m);
		return NULL;
	}
	m->entered = fln_rcu_enter();
	return m;
}

void micro_map_free(struct micro_map *m)
{
	if (!m)
		return;
	fln_blockmap_deinit(&m->map);
	fln_rcu_leave(m->entered);
	free(m);
}

uint32_t micro_map_lookup(struct micro_map *m, uint64_t page)
{
	struct fln_mask mask;

	page %= m->map.nr_pages;
	fln_rcu_read_lock();
	mask = fln_blockmap_load(&m->map, FLN_PLANE_PRESENT, page / FLN_BLOCK_PAGES);
	fln_rcu_read_unlock();
	return fln_mask_test(&mask, (uint32_t)(page % FLN_BLOCK_PAGES));
}

uint32_t micro_map_window(struct micro_map *m, uint32_t nr_pages)
{
	struct fln_mask want = fln_mask_range(0, nr_pages), won = { { 0 } };
	struct fln_chunk *c;

	fln_rcu_read_lock();
	c = fln_blockmap_chunk(&m->map, 1);
	if (c) {
		won = fln_region_claim(c, &want);
		fln_region_settle(c, &won, FLN_PAGE_PRESENT);
		fln_region_forget(c, &won);
	}
	fln_rcu_read_unlock();
	return fln_mask_count(&won);
}

bool micro_map_whole(struct micro_map *m, uint64_t nth)
{
	struct fln_mask all = fln_mask_range(0, FLN_BLOCK_PAGES), won;
	uint64_t block = 2 + nth % (NR_BLOCKS - 2);
	struct fln_chunk *c;
	bool whole = false;

	fln_rcu_read_lock();
	c = fln_blockmap_chunk(&m->map, block);
	if (c) {
		won = fln_region_claim(c, &all);
		fln_region_settle(c, &won, FLN_PAGE_PRESENT);
		whole = fln_region_collapse(&m->map, block, c) &&
			fln_blockmap_swap_uniform(&m->map, block, 1u << FLN_PLANE_PRESENT, 0);
	}
	fln_rcu_read_unlock();
	/* Returns are deferred by a grace period: wait before the pool runs out of chunks. */
	if (nth % (NR_CHUNKS / 2) == 0)
		fln_blockmap_drain(&m->map);
	return whole;
}

struct micro_plan {
	struct fln_stripe_plan plan;
};

struct micro_plan *micro_plan_new(uint32_t nr_shards)
{
	struct micro_plan *p = calloc(1, sizeof(*p));

	if (p && fln_stripe_plan_init(&p->plan, PLAN_ADDR, PLAN_BLOCKS * FLN_BLOCK_BYTES, nr_shards,
				      0, PLAN_BLOCKS)) {
		free(p);
		return NULL;
	}
	return p;
}

void micro_plan_free(struct micro_plan *p)
{
	free(p);
}

uint32_t micro_plan_shard(const struct micro_plan *p, uint64_t nth)
{
	return fln_stripe_shard(&p->plan,
				PLAN_ADDR + nth * 4099 * FLN_PAGE_BYTES % p->plan.len_bytes);
}

struct micro_batch {
	uint32_t nr;
	struct fln_fault *input, *faults;
};

struct micro_batch *micro_batch_new(uint32_t nr, bool sorted)
{
	struct micro_batch *b = calloc(1, sizeof(*b));
	uint64_t seed = 88172645463325252u;

	if (!b)
		return NULL;
	b->nr = nr;
	b->input = calloc(nr, sizeof(*b->input));
	b->faults = calloc(nr, sizeof(*b->faults));
	if (!b->input || !b->faults) {
		micro_batch_free(b);
		return NULL;
	}
	for (uint32_t i = 0; i < nr; i++) {
		seed ^= seed << 13;
		seed ^= seed >> 7;
		seed ^= seed << 17;
		b->input[i].addr = fln_align_down(seed >> 20, FLN_PAGE_BYTES);
	}
	if (sorted)
		fln_sort_faults(b->input, nr);
	return b;
}

void micro_batch_free(struct micro_batch *b)
{
	if (!b)
		return;
	free(b->input);
	free(b->faults);
	free(b);
}

void micro_batch_sort(struct micro_batch *b)
{
	for (uint32_t i = 0; i < b->nr; i++)
		b->faults[i] = b->input[i];
	fln_sort_faults(b->faults, b->nr);
}

struct micro_histogram {
	struct fln_histogram h, sum;
};

struct micro_histogram *micro_histogram_new(void)
{
	return calloc(1, sizeof(struct micro_histogram));
}

void micro_histogram_free(struct micro_histogram *h)
{
	free(h);
}

void micro_histogram_record(struct micro_histogram *h, uint64_t ns)
{
	fln_histogram_record(&h->h, ns);
}

void micro_histogram_record_shared(struct micro_histogram *h, uint64_t ns)
{
	fln_histogram_record_shared(&h->h, ns);
}

void micro_histogram_merge(struct micro_histogram *h)
{
	fln_histogram_merge(&h->sum, &h->h);
}

uint64_t micro_clock(void)
{
	return fln_now_ns();
}

void micro_atomic(void)
{
	static _Atomic uint64_t counter;

	atomic_fetch_add(&counter, 1);
}
