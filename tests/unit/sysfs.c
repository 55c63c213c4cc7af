/* SPDX-License-Identifier: MIT */
/* Trees that describe no machine are not given to hwloc, which speaks and ends the process. */
#include "numa/sysfs.h"

#include "numa/topology.h"
#include "tests/support/tree.h"

#include <errno.h>
#include <stdlib.h>

#define CPUS "/sys/devices/system/cpu"
#define NODES "/sys/devices/system/node"

/* Whether there is a topology, and that loading it comes to the same and goes on. */
static bool describes(void)
{
	struct fln_topology *t = NULL;
	bool has = fln_sysfs_has_topology(tree_root);
	int rc;

	assert_int_equal(setenv("HWLOC_FSROOT", tree_root, 1), 0);
	rc = fln_topology_load(&t, NULL, NULL);
	assert_int_equal(unsetenv("HWLOC_FSROOT"), 0);
	assert_int_equal(rc, has ? 0 : -ENODEV);
	fln_topology_destroy(t);
	return has;
}

static void a_tree_grows(void **state)
{
	(void)state;
	assert_false(describes());
	tree_put("/sys", NULL);
	assert_false(describes());
	tree_put(CPUS "/cpu0", NULL);
	assert_false(describes());
	tree_put(CPUS "/online", "0\n");
	tree_put(CPUS "/cpu0/topology/physical_package_id", "0\n");
	tree_put(CPUS "/cpu0/topology/core_id", "0\n");
	tree_put(CPUS "/cpu0/topology/thread_siblings", "1\n");
	tree_put(CPUS "/cpu0/topology/core_cpus", "1\n");
	tree_put(CPUS "/cpu0/topology/package_cpus", "1\n");
	tree_put("/proc/cpuinfo", "processor : 0\n");
	tree_put("/proc/meminfo", "MemTotal: 1024 kB\n");
	/* A kernel without NUMA. */
	assert_true(describes());
	/* Nodes, of which there are none. */
	tree_put(NODES, NULL);
	assert_false(describes());
	tree_put(NODES "/possible", "0\n");
	tree_put(NODES "/node0", NULL);
	assert_false(describes());
	tree_put(NODES "/node0/cpumap", "1\n");
	tree_put(NODES "/node0/meminfo", "Node 0 MemTotal: 1024 kB\n");
	tree_put(NODES "/online", "0\n");
	assert_true(describes());
	/* hwloc looks there first. */
	tree_put("/sys/bus/node/devices", NULL);
	assert_false(describes());
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_tree_grows, tree_begin, tree_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
