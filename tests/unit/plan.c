/* SPDX-License-Identifier: MIT */
/*
 * Plans: what must hold on any machine, on machines of many kinds and at random, and
 * two plans that were worked out by hand.
 */
#include "numa/plan.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/page.h"
#include "sharding/stripes.h"

#include <errno.h>
#include <faultlane/plan.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MAX_NODES 64u
#define GIB (UINT64_C(1) << 30)

static const char *machines_dir;
static struct fln_allocator libc_alloc;

static struct fln_topology *load(const char *synthetic)
{
	struct fln_topology *t = NULL;

	if (fln_topology_load(&t, NULL, synthetic))
		fail_msg("%s: %s", synthetic, fln_last_error());
	return t;
}

static const char *path_of(const char *name)
{
	static char path[512];

	(void)snprintf(path, sizeof(path), "%s/%s.xml", machines_dir, name);
	return path;
}

static struct fln_topology *load_file(const char *name)
{
	struct fln_topology *t = NULL;

	if (fln_topology_load_xml(&t, NULL, path_of(name)))
		fail_msg("%s: %s", name, fln_last_error());
	return t;
}

static struct fln_plan *plan_of(const struct fln_topology *t, const char *worker_cpus,
				const char *vcpu_cpus, uint32_t nr_workers)
{
	struct fln_plan_input input = { worker_cpus, vcpu_cpus, nr_workers };
	struct fln_plan *plan = NULL;

	if (fln_plan_create(&plan, &libc_alloc, t, &input))
		fail_msg("%s", fln_last_error());
	return plan;
}

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state * UINT64_C(0x2545f4914f6cdd1d) >> 16;
}

/* What is known of a plan's processors without asking the plan. */
struct seen {
	uint32_t on_pu[FLN_MAX_PUS];
	uint32_t on_core[FLN_MAX_PUS];
	struct fln_cpuset may, vcpu;
	uint32_t nr_may[MAX_NODES], nr_free[MAX_NODES];
	uint32_t nr_near[MAX_NODES]; /* of nr_free, those that the node names */
	bool any_memory;
};

static bool is_free(const struct seen *s, const struct fln_pu *pu)
{
	return fln_cpuset_has(&s->may, pu->os_index) && !fln_cpuset_has(&s->vcpu, pu->os_index) &&
	       (!pu->stray || s->nr_near[pu->node] == 0);
}

static void look(struct seen *s, const struct fln_topology *t, const char *worker_cpus,
		 const char *vcpu_cpus)
{
	memset(s, 0, sizeof(*s));
	if (worker_cpus)
		assert_int_equal(fln_cpuset_parse(&s->may, worker_cpus, "may"), 0);
	else
		memset(&s->may, 0xff, sizeof(s->may));
	if (vcpu_cpus)
		assert_int_equal(fln_cpuset_parse(&s->vcpu, vcpu_cpus, "vcpu"), 0);
	assert_true(fln_topology_nr_nodes(t) <= MAX_NODES);
	for (uint32_t i = 0; i < fln_topology_nr_pus(t); i++) {
		const struct fln_pu *pu = fln_topology_pu(t, i);

		s->nr_near[pu->node] += !pu->stray && is_free(s, pu);
	}
	for (uint32_t i = 0; i < fln_topology_nr_pus(t); i++) {
		const struct fln_pu *pu = fln_topology_pu(t, i);

		s->nr_may[pu->node] += fln_cpuset_has(&s->may, pu->os_index);
		s->nr_free[pu->node] += is_free(s, pu);
	}
	for (uint32_t i = 0; i < fln_topology_nr_nodes(t); i++)
		s->any_memory |= fln_topology_node_memory_bytes(t, i) > 0;
}

/* Every worker is on a processor that it may have, of its own node, and best so. */
static void check_workers(struct seen *s, const struct fln_topology *t, const struct fln_plan *plan)
{
	uint32_t nr = 0;

	for (uint32_t node = 0; node < plan->nr_nodes; node++) {
		const struct fln_plan_node *n = &plan->nodes[node];

		assert_int_equal(n->first_worker, nr);
		for (uint32_t k = 0; k < n->nr_workers; k++, nr++) {
			const struct fln_plan_worker *w = &plan->workers[nr];
			bool found = false;

			for (uint32_t i = 0; i < fln_topology_nr_pus(t) && !found; i++)
				found = memcmp(fln_topology_pu(t, i), &w->pu, sizeof(w->pu)) == 0;
			assert_true(found);
			assert_int_equal(w->pu.node, node);
			assert_true(fln_cpuset_has(&s->may, w->pu.os_index));
			assert_int_equal(w->shares_vcpu, fln_cpuset_has(&s->vcpu, w->pu.os_index));
			if (s->nr_free[node] > 0)
				assert_false(w->shares_vcpu);
			if (s->nr_near[node] > 0)
				assert_false(w->pu.stray);
			s->on_pu[w->pu.os_index]++;
			s->on_core[w->pu.core]++;
		}
	}
	assert_int_equal(nr, plan->nr_workers);
	for (uint32_t i = 0; i < nr; i++)
		assert_int_equal(plan->workers[i].shares_worker,
				 s->on_pu[plan->workers[i].pu.os_index] > 1);
}

/* No free processor has two workers more than another, nor a core two before all have one. */
static void check_spread(const struct seen *s, const struct fln_topology *t,
			 const struct fln_plan *plan)
{
	uint32_t least = UINT32_MAX, most = 0;

	for (uint32_t i = 0; i < fln_topology_nr_pus(t); i++) {
		const struct fln_pu *pu = fln_topology_pu(t, i);

		if (!is_free(s, pu) || plan->nodes[pu->node].nr_workers == 0)
			continue;
		least = s->on_pu[pu->os_index] < least ? s->on_pu[pu->os_index] : least;
		most = s->on_pu[pu->os_index] > most ? s->on_pu[pu->os_index] : most;
		for (uint32_t k = 0; k < fln_topology_nr_pus(t) && s->on_core[pu->core] == 0; k++) {
			const struct fln_pu *other = fln_topology_pu(t, k);

			assert_false(other->node == pu->node && s->on_core[other->core] > 1);
		}
	}
	assert_true(least == UINT32_MAX || most <= least + 1);
}

/* Nodes that can have own workers have some before others have two, and all are served. */
static void check_served(const struct seen *s, const struct fln_topology *t,
			 const struct fln_plan *plan)
{
	uint32_t nr_serving = 0, nr_with = 0, nr_many = 0;

	for (uint32_t i = 0; i < plan->nr_nodes; i++) {
		const struct fln_plan_node *n = &plan->nodes[i];
		bool memory = !s->any_memory || fln_topology_node_memory_bytes(t, i) > 0;

		assert_int_equal(n->has_memory, memory);
		assert_true(n->server < plan->nr_nodes);
		assert_true(plan->nodes[n->server].nr_workers > 0);
		if (n->nr_workers > 0)
			assert_int_equal(n->server, i);
		for (uint32_t k = 0; k < plan->nr_nodes && n->nr_workers == 0; k++) {
			if (plan->nodes[k].nr_workers > 0)
				assert_true(fln_topology_distance(t, n->server, i) <=
					    fln_topology_distance(t, k, i));
		}
		nr_serving += memory && s->nr_may[i] > 0;
		nr_with += memory && n->nr_workers > 0;
		nr_many += n->nr_workers > 1;
		assert_true(s->nr_may[i] > 0 || n->nr_workers == 0);
	}
	assert_true(nr_with == nr_serving || (nr_many == 0 && plan->nr_workers < nr_serving) ||
		    /* or a node without memory stands in for one that has only memory */
		    plan->nr_workers <= plan->nr_nodes);
}

/* A guest's shards: whole, apart, balanced within one, and served on their node. */
static void check_shards(const struct fln_plan *plan, uint32_t nr_shards, uint32_t turn)
{
	uint32_t of_worker[FLN_PLAN_MAX_WORKERS] = { 0 };
	uint32_t end = 0, least = UINT32_MAX, most = 0;

	for (uint32_t node = 0; node < plan->nr_nodes; node++) {
		const struct fln_plan_node *n = &plan->nodes[node];
		uint32_t first, nr;
		bool own = fln_plan_node_shards(plan, node, nr_shards, turn, &first, &nr);

		assert_true(nr > 0);
		assert_true(first + nr <= nr_shards);
		if (!own)
			assert_int_equal(nr, nr_shards);
		if (n->nr_workers == 0 || !own)
			continue;
		assert_int_equal(first, end);
		end = first + nr;
		for (uint32_t i = first; i < end; i++) {
			uint32_t w = fln_plan_shard_worker(plan, nr_shards, turn, i);

			assert_true(w >= n->first_worker && w < n->first_worker + n->nr_workers);
			if (i > first && n->nr_workers > 1)
				assert_int_not_equal(w, fln_plan_shard_worker(plan, nr_shards, turn,
									      i - 1));
			of_worker[w]++;
		}
	}
	assert_int_equal(end, nr_shards);
	for (uint32_t w = 0; w < plan->nr_workers; w++) {
		least = of_worker[w] < least ? of_worker[w] : least;
		most = of_worker[w] > most ? of_worker[w] : most;
	}
	assert_true(most <= least + 1);
}

/* The stripes of a region on a node: on that node's shards only, and balanced within one. */
static void check_stripes(const struct fln_plan *plan, uint32_t node, uint32_t nr_shards,
			  uint64_t len_bytes)
{
	static uint32_t of_shard[FLN_STRIPE_SHARDS_MAX];
	struct fln_stripe_plan stripes;
	uint64_t addr, len;
	uint32_t first, nr, shard;

	memset(of_shard, 0, sizeof(of_shard));
	(void)fln_plan_node_shards(plan, node, nr_shards, 0, &first, &nr);
	assert_int_equal(fln_stripe_plan_init(&stripes, GIB, len_bytes, nr, 0, 4096), 0);
	fln_stripe_plan_set_base(&stripes, first);
	for (uint64_t i = 0; fln_stripe_get(&stripes, i, &addr, &len, &shard); i++) {
		assert_in_range(shard, first, first + nr - 1);
		assert_int_equal(shard, fln_stripe_shard(&stripes, addr));
		of_shard[shard]++;
	}
	for (uint32_t i = first + 1; i < first + nr; i++)
		assert_true(of_shard[i] <= of_shard[first] && of_shard[i] + 1 >= of_shard[first]);
}

static void check_extents(const struct fln_plan *plan, uint64_t memory_bytes)
{
	uint64_t end = 0, sum = 0;

	for (uint32_t i = 0; i < plan->nr_nodes; i++)
		sum += plan->nodes[i].memory_bytes;
	for (uint32_t i = 0; i < plan->nr_nodes; i++) {
		uint64_t offset, len;
		double share, want;

		if (!fln_plan_extent(plan, i, memory_bytes, &offset, &len)) {
			assert_int_equal(len, 0);
			continue;
		}
		assert_true(plan->nodes[i].has_memory);
		assert_int_equal(offset, end);
		assert_true(fln_is_aligned(offset, FLN_BLOCK_BYTES));
		end = offset + len;
		if (sum == 0)
			continue;
		share = (double)plan->nodes[i].memory_bytes / (double)sum;
		want = share * (double)memory_bytes;
		assert_true((double)len <= want * 1.000001 + 2.0 * (double)FLN_BLOCK_BYTES);
		assert_true((double)len >= want * 0.999999 - 2.0 * (double)FLN_BLOCK_BYTES);
	}
	assert_int_equal(end, memory_bytes);
}

static void check_plan(const struct fln_topology *t, const struct fln_plan *plan,
		       const char *worker_cpus, const char *vcpu_cpus)
{
	static const uint32_t shards[] = { 1, 2, 3, 5, 8, 63, 64, 200, 1024 };
	static struct seen s;

	look(&s, t, worker_cpus, vcpu_cpus);
	check_workers(&s, t, plan);
	check_spread(&s, t, plan);
	check_served(&s, t, plan);
	for (size_t i = 0; i < sizeof(shards) / sizeof(shards[0]); i++) {
		for (uint32_t turn = 0; turn < 5; turn++)
			check_shards(plan, shards[i], turn * 7);
	}
	check_shards(plan, 8, UINT32_MAX);
	for (uint32_t node = 0; node < plan->nr_nodes; node++)
		check_stripes(plan, node, 64, 37 * FLN_BLOCK_BYTES + 3 * FLN_PAGE_BYTES);
	check_extents(plan, 4096);
	check_extents(plan, 24 * GIB + 12288);
	check_extents(plan, UINT64_C(16) << 40);
}

/* How many workers each node has, and on which processors, as text. */
static void describe(const struct fln_plan *plan, char *buf, size_t len)
{
	size_t at = 0;

	buf[0] = '\0';
	for (uint32_t i = 0; i < plan->nr_nodes; i++) {
		const struct fln_plan_node *n = &plan->nodes[i];

		at += (size_t)snprintf(buf + at, len - at, "%s%u<%u:", i ? " " : "", n->os_index,
				       plan->nodes[n->server].os_index);
		for (uint32_t k = 0; k < n->nr_workers; k++)
			at += (size_t)snprintf(buf + at, len - at, "%s%u", k ? "," : "",
					       plan->workers[n->first_worker + k].pu.os_index);
	}
	assert_true(at < len);
}

/* node<server:processors of its workers … */
static void expect(struct fln_topology *t, const char *worker_cpus, const char *vcpu_cpus,
		   uint32_t nr_workers, const char *want)
{
	struct fln_plan *plan = plan_of(t, worker_cpus, vcpu_cpus, nr_workers);
	char got[1024];

	describe(plan, got, sizeof(got));
	if (strcmp(got, want) != 0)
		fail_msg("workers %s, vCPUs %s, %u workers: '%s', not '%s'",
			 worker_cpus ? worker_cpus : "-", vcpu_cpus ? vcpu_cpus : "-", nr_workers,
			 got, want);
	check_plan(t, plan, worker_cpus, vcpu_cpus);
	fln_plan_destroy(plan);
}

/*
 * By hand: two sockets of two caches of two cores of two threads.  Processors 0-7 and
 * 8-15; cores are pairs, caches are fours.
 */
static void test_golden_smt(void **unused)
{
	struct fln_topology *t = load("pack:2 [numa(memory=8GB)] l3:2 core:2 pu:2");

	(void)unused;
	expect(t, NULL, NULL, 0, "0<0:0 1<1:8");
	/* Caches take turns, then the second cores, then the second threads. */
	expect(t, NULL, NULL, 10, "0<0:0,4,2,6,1 1<1:8,12,10,14,9");
	expect(t, NULL, NULL, 3, "0<0:0,4 1<1:8");
	expect(t, NULL, NULL, 1, "0<0:0 1<0:");
	/* All processors twice and one thrice: begin anew. */
	expect(t, NULL, NULL, 33,
	       "0<0:0,4,2,6,1,5,3,7,0,4,2,6,1,5,3,7,0 1<1:8,12,10,14,9,13,11,15,8,12,10,14,9,13,11,"
	       "15");
	/* vCPUs have all but a core of each node, or a thread, or a whole node. */
	expect(t, NULL, "0-5,10-15", 4, "0<0:6,7 1<1:8,9");
	expect(t, NULL, "0,2-7,8-14", 2, "0<0:1 1<1:15");
	/* Whole cores before the halves that vCPUs leave. */
	expect(t, NULL, "0,8-15", 2, "0<0:2 1<1:8");
	expect(t, NULL, "0,8-15", 5, "0<0:2,4,6,1 1<1:8");
	/* Workers may have node 1 only, which serves both. */
	expect(t, "9-12", NULL, 0, "0<1: 1<1:9,12");
	expect(t, "0,9-12,900", "9-12", 0, "0<0:0 1<1:9");
	fln_topology_destroy(t);
}

/* By hand: memory without processors goes to the near socket, which gets most workers. */
static void test_golden_cxl(void **unused)
{
	struct fln_topology *t = load_file("cxl");

	(void)unused;
	assert_int_equal(fln_topology_nr_nodes(t), 3);
	assert_int_equal(fln_topology_node_nr_pus(t, fln_topology_find_node(t, 2)), 0);
	assert_int_equal(fln_topology_distance(t, fln_topology_find_node(t, 1),
					       fln_topology_find_node(t, 2)),
			 14);
	/* 64 GiB to 192: one to three. */
	expect(t, NULL, NULL, 4,
	       fln_topology_node_os_index(t, 0) == 2 ? "2<1: 0<0:0 1<1:8,10,12"
						     : "0<0:0 1<1:8,10,12 2<1:");
	expect(t, "0-7", NULL, 2,
	       fln_topology_node_os_index(t, 0) == 2 ? "2<0: 0<0:0,2 1<0:" : "0<0:0,2 1<0: 2<0:");
	fln_topology_destroy(t);
}

/* Two cores have three quarters of the memory; four have none. */
static void test_asymmetric(void **unused)
{
	struct fln_topology *t = load_file("asymmetric");

	(void)unused;
	expect(t, NULL, NULL, 0, "0<0:0 1<1:6 2<0:");
	expect(t, NULL, NULL, 3, "0<0:0 1<1:6,7 2<0:");
	/* Node 1 is full; node 2 has nothing to serve. */
	expect(t, NULL, NULL, 8, "0<0:0,1,2,3,4,5 1<1:6,7 2<0:");
	expect(t, NULL, NULL, 9, "0<0:0,1,2,3,4,5 1<1:6,7,6 2<0:");
	/* Only processors without memory of their own: they serve the nearest. */
	expect(t, "8-11", NULL, 2, "0<2: 1<2: 2<2:8,9");
	fln_topology_destroy(t);
}

static void test_restricted(void **unused)
{
	struct fln_topology *t = load_file("restricted");

	(void)unused;
	assert_int_equal(fln_topology_nr_pus(t), 3);
	expect(t, NULL, NULL, 0, "0<0:2 1<1:4");
	expect(t, NULL, NULL, 3, "0<0:2,3 1<1:4");
	expect(t, NULL, "4-7", 4, "0<0:2,3 1<1:4,4");
	fln_topology_destroy(t);
}

/* No worker goes to the far socket while the near one has a free processor. */
static void test_mems(void **unused)
{
	struct fln_topology *t = load_file("mems");
	struct fln_plan_opts o = FLN_PLAN_OPTS_INIT;
	char text[4096];

	(void)unused;
	assert_int_equal(fln_topology_nr_nodes(t), 1);
	assert_int_equal(fln_topology_nr_pus(t), 8);
	for (uint32_t i = 0; i < 8; i++)
		assert_int_equal(fln_topology_pu(t, i)->stray,
				 fln_topology_pu(t, i)->os_index >= 4);
	expect(t, NULL, NULL, 4, "0<0:0,1,2,3");
	expect(t, NULL, NULL, 5, "0<0:0,1,2,3,0");
	expect(t, NULL, "0-2", 2, "0<0:3,3");
	/* Only they are free, or permitted. */
	expect(t, NULL, "0-3", 2, "0<0:4,5");
	expect(t, "5-6", NULL, 2, "0<0:5,6");
	/* A worker that must share shares with the near vCPUs. */
	expect(t, NULL, "0-7", 2, "0<0:0,1");
	expect(t, "4-7", "0-7", 1, "0<0:4");
	fln_topology_destroy(t);
	o.xml = path_of("mems");
	assert_true(fln_plan_print(&o, FLN_PLAN_TEXT, text, sizeof(text)) < (int64_t)sizeof(text));
	assert_non_null(strstr(text, "processors 4-7"));
	assert_non_null(strstr(text, "workers avoid them"));
	o.vcpu_cpus = "0-3";
	assert_true(fln_plan_print(&o, FLN_PLAN_JSON, text, sizeof(text)) < (int64_t)sizeof(text));
	assert_non_null(strstr(text, "\"nr_worker_processors\": 4"));
	assert_non_null(strstr(text, "its workers run there"));
}

/* The default: one per 8 processors, two at least, one a node, 64 at most. */
static void test_default_workers(void **unused)
{
	static const struct {
		const char *machine, *worker_cpus, *vcpu_cpus;
		uint32_t want;
	} cases[] = {
		{ "core:1 pu:1", NULL, NULL, 1 },
		{ "core:2 pu:1", NULL, NULL, 2 },
		{ "core:2 pu:1", NULL, "0-1", 2 },
		{ "core:2 pu:1", NULL, "1", 1 },
		{ "core:16 pu:1", NULL, NULL, 2 },
		{ "core:32 pu:1", NULL, NULL, 4 },
		{ "core:32 pu:2", NULL, NULL, 8 },
		{ "core:32 pu:2", NULL, "3-63", 3 },
		{ "core:32 pu:2", "0-31", NULL, 8 },
		{ "node:8 core:64 pu:1", NULL, NULL, 64 },
		{ "node:8 core:64 pu:2", NULL, NULL, 64 },
		{ "node:4 core:2 pu:1", NULL, NULL, 4 },
		{ "node:8 core:64 pu:2", NULL, "16-1023", 16 + 7 },
	};

	(void)unused;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct fln_topology *t = load(cases[i].machine);
		struct fln_plan *plan = plan_of(t, cases[i].worker_cpus, cases[i].vcpu_cpus, 0);

		if (plan->nr_workers != cases[i].want)
			fail_msg("%s: %u workers", cases[i].machine, plan->nr_workers);
		check_plan(t, plan, cases[i].worker_cpus, cases[i].vcpu_cpus);
		fln_plan_destroy(plan);
		fln_topology_destroy(t);
	}
}

/* Every number of workers on machines of all shapes. */
static void test_machines(void **unused)
{
	static const char *const machines[] = {
		"core:1 pu:1",
		"core:1 pu:8",
		"node:4 core:4 pu:2",
		"pack:8 [numa(memory=256GB)] l3:8 core:8 pu:1",
		"pack:2 [numa(memory=64GB)] [numa(memory=16GB)] core:4 pu:2",
		"[numa(memory=512GB)] pack:2 [numa(memory=64GB)] l3:2 core:4 pu:2",
		"node:64 pu:1",
		"pack:2 node:4 core:3 pu:2",
	};

	(void)unused;
	for (size_t m = 0; m < sizeof(machines) / sizeof(machines[0]); m++) {
		struct fln_topology *t = load(machines[m]);

		for (uint32_t nr = 0; nr <= FLN_PLAN_MAX_WORKERS; nr += nr < 10 ? 1 : 9) {
			struct fln_plan *plan = plan_of(t, NULL, NULL, nr);

			check_plan(t, plan, NULL, NULL);
			fln_plan_destroy(plan);
		}
		fln_topology_destroy(t);
	}
}

/* On equal caches workers are spread within one; the largest machine is quick. */
static void test_large(void **unused)
{
	struct fln_topology *t = load("pack:8 [numa(memory=1024GB)] l3:4 core:16 pu:2");
	uint32_t of_cache[32] = { 0 };
	uint64_t from, to;
	struct fln_plan *plan;

	(void)unused;
	assert_int_equal(fln_topology_nr_pus(t), 1024);
	from = fln_now_ns();
	plan = plan_of(t, NULL, "64-127,256-1023", 0);
	to = fln_now_ns();
	print_message("a plan of 1024 processors takes %.3f ms\n", (double)(to - from) / 1e6);
	check_plan(t, plan, NULL, "64-127,256-1023");
	fln_plan_destroy(plan);

	plan = plan_of(t, NULL, NULL, 0);
	assert_int_equal(plan->nr_workers, 64);
	for (uint32_t i = 0; i < 64; i++)
		of_cache[plan->workers[i].pu.cache]++;
	for (uint32_t i = 0; i < 32; i++)
		assert_int_equal(of_cache[i], 2);
	check_plan(t, plan, NULL, NULL);
	fln_plan_destroy(plan);
	fln_topology_destroy(t);
}

/* A list of some processors, at random; NULL now and then. */
static const char *random_list(uint64_t *state, uint32_t nr_pus, char *buf, size_t len)
{
	uint32_t nr = 1 + (uint32_t)(next_random(state) % 6);
	size_t at = 0;

	if (next_random(state) % 3 == 0)
		return NULL;
	for (uint32_t i = 0; i < nr; i++) {
		uint32_t lo = (uint32_t)(next_random(state) % nr_pus);
		uint32_t hi = lo + (uint32_t)(next_random(state) % (nr_pus / 2 + 1));

		at += (size_t)snprintf(buf + at, len - at, "%s%u-%u", i ? "," : "", lo, hi);
	}
	return buf;
}

static void random_machine(uint64_t *state, char *buf, size_t len)
{
	uint32_t packs = 1 + (uint32_t)(next_random(state) % 5);
	uint32_t caches = 1 + (uint32_t)(next_random(state) % 3);
	uint32_t cores = 1 + (uint32_t)(next_random(state) % 5);
	uint32_t pus = 1 + (uint32_t)(next_random(state) % 3);
	bool above = next_random(state) % 3 == 0, beside = next_random(state) % 3 == 0;
	char first[48] = "", second[48] = "";

	if (above)
		(void)snprintf(first, sizeof(first), "[numa(memory=%uGB)] ",
			       (unsigned int)(next_random(state) % 300));
	if (beside)
		(void)snprintf(second, sizeof(second), "[numa(memory=%uGB)] ",
			       (unsigned int)(next_random(state) % 100));
	(void)snprintf(buf, len, "%spack:%u [numa(memory=%uGB)] %sl3:%u core:%u pu:%u", first,
		       packs, (unsigned int)(next_random(state) % 200), second, caches, cores, pus);
}

static void test_random(void **unused)
{
	const char *scale = getenv("FAULTLANE_TEST_SCALE");
	uint32_t nr = scale && strcmp(scale, "long") == 0    ? 5000
		      : scale && strcmp(scale, "quick") == 0 ? 100
							     : 400;
	const char *given = getenv("FAULTLANE_TEST_SEED");
	uint64_t state = given ? strtoull(given, NULL, 10) | 1 : UINT64_C(0x5eed);

	(void)unused;
	print_message("seed %" PRIu64 "\n", state);
	for (uint32_t round = 0; round < nr; round++) {
		char machine[192], may_buf[192], vcpu_buf[192];
		const char *may, *vcpu;
		struct fln_plan_input input;
		struct fln_plan *plan = NULL;
		struct fln_topology *t;
		int rc;

		random_machine(&state, machine, sizeof(machine));
		t = load(machine);
		may = random_list(&state, fln_topology_nr_pus(t), may_buf, sizeof(may_buf));
		vcpu = random_list(&state, fln_topology_nr_pus(t), vcpu_buf, sizeof(vcpu_buf));
		input = (struct fln_plan_input){ may, vcpu, (uint32_t)(next_random(&state) % 65) };
		rc = fln_plan_create(&plan, &libc_alloc, t, &input);
		if (rc)
			fail_msg("%s: %s", machine, fln_last_error());
		if (round % 50 == 0)
			print_message("%s, workers %s, vCPUs %s, %u\n", machine, may ? may : "-",
				      vcpu ? vcpu : "-", input.nr_workers);
		check_plan(t, plan, may, vcpu);
		fln_plan_destroy(plan);
		fln_topology_destroy(t);
	}
}

static void test_refused(void **unused)
{
	static const char *const bad[] = {
		"",    "x",     "1-",   "-1", "3-1", ",",   "1,,2",
		"1 2", "1-2-3", "8192", "0-", "1;2", "0x3", "99999999999"
	};
	struct fln_plan *const untouched = (struct fln_plan *)(uintptr_t)0x5a5a;
	struct fln_plan *plan = untouched;
	struct fln_topology *t = load("node:2 core:2 pu:1");
	struct fln_plan_input input = { .nr_workers = 65 };

	(void)unused;
	assert_int_equal(fln_plan_create(&plan, &libc_alloc, t, &input), -EINVAL);
	assert_non_null(strstr(fln_last_error(), "65"));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		input = (struct fln_plan_input){ .worker_cpus = bad[i] };
		assert_int_equal(fln_plan_create(&plan, &libc_alloc, t, &input), -EINVAL);
		assert_non_null(strstr(fln_last_error(), "worker_cpus"));
		input = (struct fln_plan_input){ .vcpu_cpus = bad[i] };
		assert_int_equal(fln_plan_create(&plan, &libc_alloc, t, &input), -EINVAL);
		assert_non_null(strstr(fln_last_error(), "vcpu_cpus"));
	}
	input = (struct fln_plan_input){ .worker_cpus = "4-7" };
	assert_int_equal(fln_plan_create(&plan, &libc_alloc, t, &input), -EINVAL);
	assert_non_null(strstr(fln_last_error(), "0-3"));
	assert_ptr_equal(plan, untouched);
	fln_topology_destroy(t);
}

static void test_cpusets(void **unused)
{
	static const char *const same[] = { "0", "0-3,8", "5,7,9", "0-8191", "8191", "63-64" };
	struct fln_cpuset set;
	char buf[64];

	(void)unused;
	for (size_t i = 0; i < sizeof(same) / sizeof(same[0]); i++) {
		assert_int_equal(fln_cpuset_parse(&set, same[i], "list"), 0);
		assert_string_equal(fln_cpuset_format(&set, buf, sizeof(buf)), same[i]);
	}
	assert_int_equal(fln_cpuset_parse(&set, "3,1-2,2,0", "list"), 0);
	assert_string_equal(fln_cpuset_format(&set, buf, sizeof(buf)), "0-3");
	assert_int_equal(fln_cpuset_parse(&set, "1,3,5,7,9,11,13,15,17", "list"), 0);
	assert_string_equal(fln_cpuset_format(&set, buf, 16), "1,3,5,7,9,11...");
	memset(&set, 0, sizeof(set));
	assert_string_equal(fln_cpuset_format(&set, buf, sizeof(buf)), "-");
	assert_false(fln_cpuset_has(&set, UINT32_MAX));
}

/* Text and JSON, cut and whole; and what is refused. */
static void test_print(void **unused)
{
	static char whole[65536], cut[65536];
	struct fln_plan_opts o = FLN_PLAN_OPTS_INIT;

	(void)unused;
	o.xml = path_of("cxl");
	o.memory_bytes = 64 * GIB;
	o.nr_workers = 4;
	o.vcpu_cpus = "1-7,9,11,13-15";
	for (uint32_t f = 0; f < FLN_PLAN_NR_FORMATS; f++) {
		enum fln_plan_format format = (enum fln_plan_format)f;
		int64_t len = fln_plan_print(&o, format, whole, sizeof(whole));

		assert_true(len > 0 && len < (int64_t)sizeof(whole));
		assert_int_equal(strlen(whole), len);
		assert_int_equal(fln_plan_print(&o, format, NULL, 0), len);
		for (size_t room = 1; room <= (size_t)len + 1; room += 97) {
			memset(cut, 'x', sizeof(cut));
			assert_int_equal(fln_plan_print(&o, format, cut, room), len);
			assert_int_equal(strlen(cut),
					 room - 1 < (size_t)len ? room - 1 : (size_t)len);
			assert_memory_equal(cut, whole, strlen(cut));
			assert_int_equal(cut[room], 'x');
		}
		assert_non_null(strstr(whole, "node 2 has no processors: node 1 serves its memory, "
					      "at distance 14"));
	}
	assert_non_null(strstr(whole, "\"served_by\": 1, \"distance\": 14"));
	assert_non_null(strstr(whole, "\"guest_bytes\": 34359738368"));
	o.synthetic = "node:2 core:1 pu:1";
	assert_int_equal(fln_plan_print(&o, FLN_PLAN_TEXT, cut, sizeof(cut)), -EINVAL);
	o.synthetic = NULL;
	o.xml = "/nowhere.xml";
	assert_int_equal(fln_plan_print(&o, FLN_PLAN_TEXT, cut, sizeof(cut)), -EINVAL);
	assert_non_null(strstr(fln_last_error(), "/nowhere.xml"));
	o.xml = NULL;
	o.nr_shards = 1025;
	assert_int_equal(fln_plan_print(&o, FLN_PLAN_TEXT, cut, sizeof(cut)), -EINVAL);
	o.nr_shards = 0;
	assert_int_equal(fln_plan_print(&o, FLN_PLAN_NR_FORMATS, cut, sizeof(cut)), -EINVAL);
	assert_int_equal(fln_plan_print(&o, FLN_PLAN_TEXT, NULL, 1), -EINVAL);
	assert_true(fln_plan_print(NULL, FLN_PLAN_TEXT, cut, sizeof(cut)) > 0);
	assert_non_null(strstr(cut, "this machine: "));
}

int main(int argc, char **argv)
{
	static const char *const vars[] = { "HWLOC_SYNTHETIC", "HWLOC_XMLFILE", "HWLOC_FSROOT" };
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cpusets),    cmocka_unit_test(test_golden_smt),
		cmocka_unit_test(test_golden_cxl), cmocka_unit_test(test_asymmetric),
		cmocka_unit_test(test_restricted), cmocka_unit_test(test_default_workers),
		cmocka_unit_test(test_machines),   cmocka_unit_test(test_large),
		cmocka_unit_test(test_random),     cmocka_unit_test(test_refused),
		cmocka_unit_test(test_print),      cmocka_unit_test(test_mems),
	};

	if (argc != 2) {
		(void)fprintf(stderr, "usage: %s DIRECTORY-OF-MACHINES\n", argv[0]);
		return 1;
	}
	machines_dir = argv[1];
	for (size_t i = 0; i < sizeof(vars) / sizeof(vars[0]); i++)
		(void)unsetenv(vars[i]);
	if (fln_alloc_init(&libc_alloc, NULL))
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
