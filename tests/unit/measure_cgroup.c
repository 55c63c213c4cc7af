/* SPDX-License-Identifier: MIT */
/* What memory cgroups leave: both versions, limits of parents, containers, what is no limit. */
#include "measure/cgroup.h"

#include "tests/support/tree.h"

#include <stdint.h>
#include <stdio.h>

#define V1 "/sys/fs/cgroup/memory"
#define V2 "/sys/fs/cgroup"
#define MIB (UINT64_C(1) << 20)

static void put(const char *folder, const char *name, const char *text)
{
	char path[256];

	(void)snprintf(path, sizeof(path), "%s/%s", folder, name);
	tree_put(path, text);
}

static uint64_t available(void)
{
	uint64_t bytes = 0;

	return measure_cgroup_available(tree_root, &bytes) ? bytes : UINT64_MAX;
}

static void mounts(const char *text)
{
	put("/proc/self", "mountinfo", text);
}

static const char v1_mount[] =
	"30 29 0:26 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
	"31 29 0:27 / /sys/fs/cgroup/memory rw,nosuid - cgroup cgroup rw,memory\n";

static void nothing_is_known(void **state)
{
	(void)state;
	assert_int_equal(available(), UINT64_MAX);
	put("/proc/self", "cgroup", "4:memory:/a\n0::/b\n");
	assert_int_equal(available(), UINT64_MAX);
	mounts(v1_mount);
	assert_int_equal(available(), UINT64_MAX);
}

static void version_1(void **state)
{
	(void)state;
	mounts(v1_mount);
	put("/proc/self", "cgroup", "5:cpu,cpuacct:/other\n4:memory:/a/b\n");
	put(V1 "/a/b", "memory.limit_in_bytes", "268435456\n");
	put(V1 "/a/b", "memory.usage_in_bytes", "67108864\n");
	assert_int_equal(available(), 192 * MIB);
	/* File cache can be dropped; that of descendants counts, too. */
	put(V1 "/a/b", "memory.stat",
	    "inactive_file 1\ntotal_inactive_file 16777216\ntotal_active_file 16777216\n");
	assert_int_equal(available(), 224 * MIB);
	/* The one around it is tighter. */
	put(V1 "/a", "memory.limit_in_bytes", "134217728\n");
	put(V1 "/a", "memory.usage_in_bytes", "134217729\n");
	assert_int_equal(available(), 0);
	put(V1 "/a", "memory.limit_in_bytes", "9223372036854771712\n");
	assert_int_equal(available(), 224 * MIB);
	/* And so is the top's, where it has one. */
	put(V1, "memory.limit_in_bytes", "1048576\n");
	put(V1, "memory.usage_in_bytes", "0\n");
	assert_int_equal(available(), MIB);
}

static void version_2(void **state)
{
	(void)state;
	mounts("31 29 0:27 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n");
	put("/proc/self", "cgroup", "0::/a/b\n");
	put(V2 "/a/b", "memory.max", "max\n");
	put(V2 "/a/b", "memory.current", "1048576\n");
	assert_int_equal(available(), UINT64_MAX);
	put(V2 "/a", "memory.max", "134217728\n");
	put(V2 "/a", "memory.current", "67108864\n");
	put(V2 "/a", "memory.stat", "anon 5\ninactive_file 1048576\nactive_file 0\n");
	assert_int_equal(available(), 65 * MIB);
}

/* A container sees a part of the hierarchy as all of it. */
static void a_part_is_mounted(void **state)
{
	(void)state;
	mounts("31 29 0:27 /docker/x /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n");
	put("/proc/self", "cgroup", "4:memory:/docker/x/y\n");
	put(V1 "/y", "memory.limit_in_bytes", "134217728\n");
	put(V1 "/y", "memory.usage_in_bytes", "0\n");
	assert_int_equal(available(), 128 * MIB);
	put("/proc/self", "cgroup", "4:memory:/elsewhere\n");
	assert_int_equal(available(), UINT64_MAX);
	put(V1, "memory.limit_in_bytes", "1048576\n");
	put(V1, "memory.usage_in_bytes", "0\n");
	assert_int_equal(available(), MIB);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(nothing_is_known, tree_begin, tree_end),
		cmocka_unit_test_setup_teardown(version_1, tree_begin, tree_end),
		cmocka_unit_test_setup_teardown(version_2, tree_begin, tree_end),
		cmocka_unit_test_setup_teardown(a_part_is_mounted, tree_begin, tree_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
