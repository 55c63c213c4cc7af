/* SPDX-License-Identifier: MIT */
/* Topologies live and described, the placement of workers on them, and the jemalloc adapter. */
#include "numa/topology.h"
#include "base/page.h"
#include "numa/jemalloc.h"
#include "numa/placement.h"

#include <errno.h>
#include <inttypes.h>
#include <jemalloc/jemalloc.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#define MAX_PUS 8192u
#define MAX_WORKERS 300u
#define BITS_PER_LONG (8 * sizeof(unsigned long))

struct affinity {
	unsigned long mask[MAX_PUS / BITS_PER_LONG];
};

static struct affinity affinity_get(void)
{
	struct affinity a = { { 0 } };

	assert_true(syscall(SYS_sched_getaffinity, 0, sizeof(a.mask), a.mask) > 0);
	return a;
}

static void affinity_set(const struct affinity *a)
{
	assert_int_equal(syscall(SYS_sched_setaffinity, 0, sizeof(a->mask), a->mask), 0);
}

static bool affinity_has(const struct affinity *a, uint32_t pu)
{
	return (a->mask[pu / BITS_PER_LONG] >> (pu % BITS_PER_LONG)) & 1;
}

static struct fln_topology *load(const char *synthetic)
{
	struct fln_topology *t = NULL;
	int rc = fln_topology_load(&t, NULL, synthetic);

	if (rc)
		print_message("%s: %s\n", synthetic ? synthetic : "live", fln_last_error());
	assert_int_equal(rc, 0);
	assert_non_null(t);
	return t;
}

/* What the environment describes; it is as before even when loading fails. */
static struct fln_topology *load_from(const char *variable, const char *value)
{
	struct fln_topology *t = NULL;
	int rc;

	assert_int_equal(setenv(variable, value, 1), 0);
	rc = fln_topology_load(&t, NULL, NULL);
	assert_int_equal(unsetenv(variable), 0);
	if (rc)
		print_message("%s=%s: %s\n", variable, value, fln_last_error());
	assert_int_equal(rc, 0);
	assert_false(fln_topology_is_live(t));
	return t;
}

/* The same processors in any order: every one once, and counts that agree. */
static void check_consistent(const struct fln_topology *t)
{
	static bool seen[MAX_PUS];
	uint32_t nr = 0;

	memset(seen, 0, sizeof(seen));
	assert_true(fln_topology_nr_nodes(t) >= 1);
	assert_true(fln_topology_nr_pus(t) >= 1);
	for (uint32_t node = 0; node < fln_topology_nr_nodes(t); node++) {
		for (uint32_t i = 0; i < fln_topology_node_nr_pus(t, node); i++) {
			uint32_t pu = fln_topology_node_pu(t, node, i);

			assert_true(pu < MAX_PUS);
			assert_false(seen[pu]);
			seen[pu] = true;
			nr++;
		}
	}
	assert_int_equal(nr, fln_topology_nr_pus(t));
}

static void test_live(void **unused)
{
	struct affinity allowed = affinity_get();
	struct fln_topology *t = load(NULL);

	(void)unused;
	assert_true(fln_topology_is_live(t));
	check_consistent(t);
	for (uint32_t node = 0; node < fln_topology_nr_nodes(t); node++) {
		for (uint32_t i = 0; i < fln_topology_node_nr_pus(t, node); i++)
			assert_true(affinity_has(&allowed, fln_topology_node_pu(t, node, i)));
	}
	fln_topology_destroy(t);
}

/* Loading leaves the thread where it may run, and sees only that. */
static void test_live_respects_affinity(void **unused)
{
	struct affinity before = affinity_get();
	struct affinity after;
	struct fln_topology *t = load(NULL);
	uint32_t pu;

	(void)unused;
	after = affinity_get();
	assert_memory_equal(&before, &after, sizeof(before));

	pu = fln_topology_pu(t, fln_topology_nr_pus(t) - 1)->os_index;
	fln_topology_destroy(t);
	assert_int_equal(fln_pin_thread(pu), 0);
	t = load(NULL);
	after = affinity_get();
	affinity_set(&before);

	assert_int_equal(fln_topology_nr_pus(t), 1);
	check_consistent(t);
	assert_true(affinity_has(&after, pu));
	assert_int_equal(fln_topology_pu(t, 0)->os_index, pu);
	fln_topology_destroy(t);
}

static void test_pin_refuses(void **unused)
{
	struct affinity before = affinity_get();
	struct affinity after;

	(void)unused;
	assert_int_equal(fln_pin_thread(MAX_PUS), -EINVAL);
	assert_int_equal(fln_pin_thread(UINT32_MAX), -EINVAL);
	if (!affinity_has(&before, MAX_PUS - 1)) {
		assert_int_equal(fln_pin_thread(MAX_PUS - 1), -EINVAL);
		assert_true(strlen(fln_last_error()) > 0);
	}
	after = affinity_get();
	assert_memory_equal(&before, &after, sizeof(before));
}

static void test_synthetic(void **unused)
{
	/* A processor of each core, then the second of each. */
	static const uint32_t order[] = { 0, 2, 4, 6, 1, 3, 5, 7 };
	struct fln_topology *t = load("node:4 core:4 pu:2");

	(void)unused;
	assert_false(fln_topology_is_live(t));
	assert_int_equal(fln_topology_nr_nodes(t), 4);
	assert_int_equal(fln_topology_nr_pus(t), 32);
	for (uint32_t node = 0; node < 4; node++) {
		assert_int_equal(fln_topology_node_os_index(t, node), node);
		assert_int_equal(fln_topology_node_nr_pus(t, node), 8);
		for (uint32_t i = 0; i < 8; i++)
			assert_int_equal(fln_topology_node_pu(t, node, i), 8 * node + order[i]);
	}
	fln_topology_destroy(t);

	t = load("node:8 core:64 pu:1");
	assert_int_equal(fln_topology_nr_nodes(t), 8);
	assert_int_equal(fln_topology_nr_pus(t), 512);
	assert_int_equal(fln_topology_node_pu(t, 7, 63), 511);
	check_consistent(t);
	fln_topology_destroy(t);

	t = load("core:1 pu:1");
	assert_int_equal(fln_topology_nr_nodes(t), 1);
	assert_int_equal(fln_topology_nr_pus(t), 1);
	assert_int_equal(fln_topology_node_pu(t, 0, 0), 0);
	fln_topology_destroy(t);

	/* Without cores a processor is its own. */
	t = load("node:2 pu:3");
	assert_int_equal(fln_topology_node_pu(t, 1, 2), 5);
	check_consistent(t);
	fln_topology_destroy(t);
}

/* Memory beside DRAM, and memory of the whole machine, take no processors from DRAM. */
static void test_memory_only_nodes(void **unused)
{
	struct fln_topology *t = load("[numa] pack:2 [numa][numa] core:2 pu:2");
	uint32_t with = 0;

	(void)unused;
	assert_int_equal(fln_topology_nr_nodes(t), 5);
	check_consistent(t);
	for (uint32_t node = 0; node < 5; node++) {
		uint32_t nr = fln_topology_node_nr_pus(t, node);

		assert_true(nr == 0 || nr == 4);
		with += nr == 4;
	}
	assert_int_equal(with, 2);
	fln_topology_destroy(t);
}

static void test_environment(void **unused)
{
	struct fln_topology *t = load_from("HWLOC_SYNTHETIC", "node:3 core:5 pu:1");

	(void)unused;
	assert_int_equal(fln_topology_nr_nodes(t), 3);
	assert_int_equal(fln_topology_nr_pus(t), 15);
	fln_topology_destroy(t);
}

static void test_bad_description(void **unused)
{
	struct fln_topology *const untouched = (struct fln_topology *)(uintptr_t)0x5a5a;
	struct fln_topology *t = untouched;

	(void)unused;
	assert_int_equal(fln_topology_load(&t, NULL, "nodes of all kinds"), -EINVAL);
	assert_ptr_equal(t, untouched);
	assert_non_null(strstr(fln_last_error(), "nodes of all kinds"));
	assert_int_equal(fln_topology_load(&t, NULL, ""), -EINVAL);
	assert_ptr_equal(t, untouched);
	fln_topology_destroy(NULL);
}

struct counting {
	size_t bytes;
	bool fail;
};

static void *counting_alloc(void *ctx, size_t size_bytes, size_t align_bytes, uint32_t node)
{
	struct counting *c = ctx;
	void *ptr = NULL;

	(void)node;
	if (c->fail || posix_memalign(&ptr, align_bytes, size_bytes))
		return NULL;
	c->bytes += size_bytes;
	return ptr;
}

static void counting_free(void *ctx, void *ptr, size_t size_bytes, uint32_t node)
{
	struct counting *c = ctx;

	(void)node;
	c->bytes -= size_bytes;
	free(ptr);
}

static void test_allocator(void **unused)
{
	struct counting c = { 0 };
	struct fln_allocator a = {
		.size = sizeof(a),
		.ctx = &c,
		.alloc = counting_alloc,
		.free = counting_free,
	};
	struct fln_topology *t = NULL;

	(void)unused;
	assert_int_equal(fln_topology_load(&t, &a, "node:4 core:4 pu:2"), 0);
	assert_true(c.bytes > 0);
	a.free = NULL; /* it is copied */
	fln_topology_destroy(t);
	assert_int_equal(c.bytes, 0);

	t = NULL;
	assert_int_equal(fln_topology_load(&t, &a, "node:4 core:4 pu:2"), -EINVAL);
	a.free = counting_free;
	c.fail = true;
	assert_int_equal(fln_topology_load(&t, &a, "node:4 core:4 pu:2"), -ENOMEM);
	assert_null(t);
}

/*
 * hwloc's description of node 0 with one processor and node 7 with two cores of
 * two, in the form that its plainest parser takes too.  clang-format would indent
 * the concatenated strings off the page.
 */
/* clang-format off */
#define SETS(cpus, node) \
	"cpuset=\"" cpus "\" complete_cpuset=\"" cpus "\" " \
	"nodeset=\"" node "\" complete_nodeset=\"" node "\" "
#define OBJECT(type, os, gp, cpus, node) \
	"<object type=\"" type "\" os_index=\"" os "\" " SETS(cpus, node) "gp_index=\"" gp "\">\n"
#define GROUP(gp, cpus, node) \
	"<object type=\"Group\" " SETS(cpus, node) "gp_index=\"" gp "\" kind=\"1001\">\n"
#define END "</object>\n"

static const char uneven_xml[] =
	"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
	"<!DOCTYPE topology SYSTEM \"hwloc2.dtd\">\n"
	"<topology version=\"2.0\">\n"
	"<object type=\"Machine\" os_index=\"0\" " SETS("0x00000f02", "0x00000081")
	"allowed_cpuset=\"0x00000f02\" allowed_nodeset=\"0x00000081\" gp_index=\"1\">\n"
	GROUP("2", "0x00000002", "0x00000001")
		OBJECT("NUMANode", "0", "3", "0x00000002", "0x00000001") END
		OBJECT("Core", "0", "4", "0x00000002", "0x00000001")
			OBJECT("PU", "1", "5", "0x00000002", "0x00000001") END
		END
	END
	GROUP("6", "0x00000f00", "0x00000080")
		OBJECT("NUMANode", "7", "7", "0x00000f00", "0x00000080") END
		OBJECT("Core", "4", "8", "0x00000300", "0x00000080")
			OBJECT("PU", "8", "9", "0x00000100", "0x00000080") END
			OBJECT("PU", "9", "10", "0x00000200", "0x00000080") END
		END
		OBJECT("Core", "5", "11", "0x00000c00", "0x00000080")
			OBJECT("PU", "10", "12", "0x00000400", "0x00000080") END
			OBJECT("PU", "11", "13", "0x00000800", "0x00000080") END
		END
	END
	END
	"</topology>\n";
/* clang-format on */

/* OS indices have gaps, cores and caches are counted over the machine. */
static void test_uneven(void **unused)
{
	static const uint32_t want[][3] = {
		{ 1, 0, 0 }, { 8, 1, 1 }, { 10, 2, 1 }, { 9, 1, 1 }, { 11, 2, 1 }
	};
	char path[] = "/tmp/faultlane-topology-XXXXXX";
	struct fln_topology *t = NULL;
	int fd = mkstemp(path);

	(void)unused;
	assert_true(fd >= 0);
	assert_int_equal(write(fd, uneven_xml, sizeof(uneven_xml) - 1), sizeof(uneven_xml) - 1);
	assert_int_equal(close(fd), 0);
	t = load_from("HWLOC_XMLFILE", path);
	fln_topology_destroy(t);
	assert_int_equal(fln_topology_load_xml(&t, NULL, path), 0);
	assert_int_equal(unlink(path), 0);

	check_consistent(t);
	assert_false(fln_topology_is_live(t));
	assert_int_equal(fln_topology_nr_nodes(t), 2);
	assert_int_equal(fln_topology_node_os_index(t, 1), 7);
	assert_int_equal(fln_topology_find_node(t, 7), 1);
	assert_int_equal(fln_topology_find_node(t, 1), FLN_NODE_ANY);
	assert_int_equal(fln_topology_node_nr_pus(t, 0), 1);
	assert_int_equal(fln_topology_node_nr_pus(t, 1), 4);
	assert_int_equal(fln_topology_node_memory_bytes(t, 0), 0);
	for (uint32_t i = 0; i < 5; i++) {
		const struct fln_pu *pu = fln_topology_pu(t, i);

		assert_int_equal(pu->os_index, want[i][0]);
		assert_int_equal(pu->core, want[i][1]);
		assert_int_equal(pu->node, want[i][2]);
	}
	fln_topology_destroy(t);
	assert_int_equal(fln_topology_load_xml(&t, NULL, path), -EINVAL);
	assert_non_null(strstr(fln_last_error(), path));
}

/* Caches, packages and memory, which nobody but the plan looks at. */
static void test_caches(void **unused)
{
	struct fln_topology *t = load("pack:2 [numa(memory=4GB)] l3:2 core:2 pu:2");

	(void)unused;
	check_consistent(t);
	assert_int_equal(fln_topology_nr_nodes(t), 2);
	for (uint32_t i = 0; i < fln_topology_nr_pus(t); i++) {
		const struct fln_pu *pu = fln_topology_pu(t, i);

		assert_int_equal(pu->package, pu->os_index / 8);
		assert_int_equal(pu->node, pu->os_index / 8);
		assert_int_equal(pu->cache, pu->os_index / 4);
		assert_int_equal(pu->core, pu->os_index / 2);
		assert_int_equal(pu->smt_rank, pu->os_index % 2);
	}
	assert_true(fln_topology_node_memory_bytes(t, 1) >= 4000000000);
	assert_int_equal(fln_topology_distance(t, 1, 1), 10);
	assert_true(fln_topology_distance(t, 0, 1) > 10);
	fln_topology_destroy(t);
}

static void test_bind_memory(void **unused)
{
	const size_t len = 4 * FLN_PAGE_BYTES;
	struct fln_topology *t = load(NULL);
	char *addr = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int rc;

	(void)unused;
	assert_ptr_not_equal(addr, MAP_FAILED);
	assert_int_equal(fln_bind_memory(addr + 1, len, 0), -EINVAL);
	assert_int_equal(fln_bind_memory(addr, len - 1, 0), -EINVAL);
	assert_int_equal(fln_bind_memory(addr, 0, 0), -EINVAL);
	assert_int_equal(fln_bind_memory(addr, len, FLN_NODE_ANY), 0);
	rc = fln_bind_memory(addr, len, fln_topology_node_os_index(t, 0));
	if (rc && rc != -EPERM && rc != -ENOSYS)
		print_message("%s\n", fln_last_error());
	assert_true(rc == 0 || rc == -EPERM || rc == -ENOSYS);
	memset(addr, 1, len);
	assert_int_equal(munmap(addr, len), 0);
	fln_topology_destroy(t);
}

static unsigned int arena_of(void *ptr)
{
	unsigned int arena = UINT32_MAX;
	size_t size = sizeof(arena);

	assert_int_equal(mallctl("arenas.lookup", &arena, &size, &ptr, sizeof(ptr)), 0);
	return arena;
}

static void round_trip(const struct fln_allocator *a, uint32_t node)
{
	static const size_t sizes[] = { 0, 1, 64, 4095, 65536, 3 * FLN_BLOCK_BYTES + 17 };

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		for (size_t align = 1; align <= FLN_BLOCK_BYTES; align *= 8) {
			unsigned char *ptr = a->alloc(a->ctx, sizes[i], align, node);

			assert_non_null(ptr);
			assert_true(fln_is_aligned((uintptr_t)ptr, align));
			memset(ptr, 0x5a, sizes[i]);
			a->free(a->ctx, ptr, sizes[i], node);
		}
	}
}

static void test_jemalloc_live(void **unused)
{
	struct fln_topology *t = load(NULL);
	struct fln_topology *again = NULL;
	struct fln_allocator a = { 0 };
	int rc;

	(void)unused;
	assert_int_equal(fln_jemalloc_allocator_create(t, &a), 0);
	for (uint32_t node = 0; node < fln_topology_nr_nodes(t); node++)
		round_trip(&a, fln_topology_node_os_index(t, node));
	round_trip(&a, FLN_NODE_ANY);
	round_trip(&a, 4000); /* a node that is not there */
	rc = fln_jemalloc_bind_error(&a);
	if (rc)
		print_message("memory is not bound: %s\n", strerror(-rc));
	assert_true(rc == 0 || rc == -EPERM || rc == -ENOSYS);

	/* The table is one that the library takes. */
	assert_int_equal(fln_topology_load(&again, &a, "node:2 core:2 pu:1"), 0);
	fln_topology_destroy(again);
	fln_jemalloc_allocator_destroy(&a);
	assert_null(a.alloc);
	fln_jemalloc_allocator_destroy(&a);
	fln_jemalloc_allocator_destroy(NULL);
	fln_topology_destroy(t);
}

/* Each node's memory is of its own arena, and destroyed arenas are used again. */
static void test_jemalloc_arenas(void **unused)
{
	struct fln_topology *t = load("node:4 core:1 pu:1");
	unsigned int nr_first = 0, nr_last = 0;
	size_t size = sizeof(nr_first);

	(void)unused;
	for (uint32_t round = 0; round < 50; round++) {
		struct fln_allocator a = { 0 };
		unsigned int arenas[4];
		void *ptrs[4];

		assert_int_equal(fln_jemalloc_allocator_create(t, &a), 0);
		for (uint32_t node = 0; node < 4; node++) {
			ptrs[node] = a.alloc(a.ctx, 100000, 64, node);
			assert_non_null(ptrs[node]);
			arenas[node] = arena_of(ptrs[node]);
			for (uint32_t i = 0; i < node; i++)
				assert_int_not_equal(arenas[node], arenas[i]);
		}
		for (uint32_t node = 0; node < 4; node++)
			a.free(a.ctx, ptrs[node], 100000, node);
		fln_jemalloc_allocator_destroy(&a);
		assert_int_equal(mallctl("arenas.narenas", round ? &nr_last : &nr_first, &size,
					 NULL, 0),
				 0);
	}
	assert_int_equal(nr_first, nr_last);
	fln_topology_destroy(t);
}

static void *round_trips(void *arg)
{
	const struct fln_allocator *a = arg;

	for (uint32_t i = 0; i < 100; i++) {
		uint32_t node = i % 2;
		void *ptr = a->alloc(a->ctx, 1 + i * 1000, 64, node);

		if (!ptr)
			return arg;
		memset(ptr, 1, 1 + i * 1000);
		a->free(a->ctx, ptr, 1 + i * 1000, node);
	}
	return NULL;
}

static void test_jemalloc_threads(void **unused)
{
	struct fln_topology *t = load("node:2 core:1 pu:1");
	struct fln_allocator a = { 0 };
	pthread_t threads[8];

	(void)unused;
	assert_int_equal(fln_jemalloc_allocator_create(t, &a), 0);
	for (uint32_t i = 0; i < 8; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, round_trips, &a), 0);
	for (uint32_t i = 0; i < 8; i++) {
		void *failed = NULL;

		assert_int_equal(pthread_join(threads[i], &failed), 0);
		assert_null(failed);
	}
	fln_jemalloc_allocator_destroy(&a);
	fln_topology_destroy(t);
}

int main(void)
{
	static const char *const vars[] = {
		"HWLOC_SYNTHETIC",  "HWLOC_XMLFILE",    "HWLOC_FSROOT",
		"HWLOC_CPUID_PATH", "HWLOC_COMPONENTS", "HWLOC_THISSYSTEM",
	};
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_live),
		cmocka_unit_test(test_live_respects_affinity),
		cmocka_unit_test(test_pin_refuses),
		cmocka_unit_test(test_synthetic),
		cmocka_unit_test(test_memory_only_nodes),
		cmocka_unit_test(test_environment),
		cmocka_unit_test(test_bad_description),
		cmocka_unit_test(test_allocator),
		cmocka_unit_test(test_uneven),
		cmocka_unit_test(test_caches),
		cmocka_unit_test(test_bind_memory),
		cmocka_unit_test(test_jemalloc_live),
		cmocka_unit_test(test_jemalloc_arenas),
		cmocka_unit_test(test_jemalloc_threads),
	};

	/* "Live" means this machine here, whatever the caller's environment describes. */
	for (size_t i = 0; i < sizeof(vars) / sizeof(vars[0]); i++)
		(void)unsetenv(vars[i]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
