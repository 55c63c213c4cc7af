/* SPDX-License-Identifier: MIT */
/* Trees that describe no machine are not given to hwloc, which speaks and ends the process. */
#include "numa/sysfs.h"

#include "numa/topology.h"
#include "tests/support/cm.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define CPUS "/sys/devices/system/cpu"
#define NODES "/sys/devices/system/node"

static char root[64];

/* A file of @text, or with NULL a folder, and the folders on the way. */
static void put(const char *name, const char *text)
{
	char path[256];
	FILE *f;

	(void)snprintf(path, sizeof(path), "%s%s%s", root, name, text ? "" : "/");
	for (char *at = path + strlen(root) + 1; (at = strchr(at, '/')) != NULL; at++) {
		*at = '\0';
		(void)mkdir(path, 0700);
		*at = '/';
	}
	if (!text)
		return;
	f = fopen(path, "we");
	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
}

static int begin(void **state)
{
	(void)state;
	(void)snprintf(root, sizeof(root), "/tmp/fln-sysfs-XXXXXX");
	return mkdtemp(root) ? 0 : -1;
}

static int end(void **state)
{
	char command[128];

	(void)state;
	(void)snprintf(command, sizeof(command), "rm -r '%s'", root);
	return system(command); /* NOLINT(cert-env33-c): a path of our own */
}

/* Whether there is a topology, and that loading it comes to the same and goes on. */
static bool describes(void)
{
	struct fln_topology *t = NULL;
	bool has = fln_sysfs_has_topology(root);
	int rc;

	assert_int_equal(setenv("HWLOC_FSROOT", root, 1), 0);
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
	put("/sys", NULL);
	assert_false(describes());
	put(CPUS "/cpu0", NULL);
	assert_false(describes());
	put(CPUS "/online", "0\n");
	put(CPUS "/cpu0/topology/physical_package_id", "0\n");
	put(CPUS "/cpu0/topology/core_id", "0\n");
	put(CPUS "/cpu0/topology/thread_siblings", "1\n");
	put(CPUS "/cpu0/topology/core_cpus", "1\n");
	put(CPUS "/cpu0/topology/package_cpus", "1\n");
	put("/proc/cpuinfo", "processor : 0\n");
	put("/proc/meminfo", "MemTotal: 1024 kB\n");
	/* A kernel without NUMA. */
	assert_true(describes());
	/* Nodes, of which there are none. */
	put(NODES, NULL);
	assert_false(describes());
	put(NODES "/possible", "0\n");
	put(NODES "/node0", NULL);
	assert_false(describes());
	put(NODES "/node0/cpumap", "1\n");
	put(NODES "/node0/meminfo", "Node 0 MemTotal: 1024 kB\n");
	put(NODES "/online", "0\n");
	assert_true(describes());
	/* hwloc looks there first. */
	put("/sys/bus/node/devices", NULL);
	assert_false(describes());
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_tree_grows, begin, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
