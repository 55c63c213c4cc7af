/* SPDX-License-Identifier: MIT */
/* Free memory is what cgroups leave of it. */
#include "sources/free_memory.h"

#include "tests/support/tree.h"

#include <stdint.h>

#define MIB (UINT64_C(1) << 20)
#define CGROUPS "/sys/fs/cgroup"

static void without_cgroups(void **state)
{
	(void)state;
	assert_true(fln_free_memory(tree_root) > 4 * MIB);
	tree_put("/proc/self/cgroup", "4:memory:/a\n");
	tree_put(CGROUPS "/a/memory.max", "1\n");
	tree_put(CGROUPS "/a/memory.current", "0\n");
	assert_true(fln_free_memory(tree_root) > 4 * MIB);
}

static void the_tightest_limit_holds(void **state)
{
	(void)state;
	tree_put("/proc/self/cgroup", "4:cpu:/x\n0::/a/b\n1:name=c:/y\n");
	tree_put(CGROUPS "/a/b/memory.max", "max\n");
	tree_put(CGROUPS "/a/b/memory.current", "4096\n");
	assert_true(fln_free_memory(tree_root) > 4 * MIB);
	tree_put(CGROUPS "/a/memory.max", "4194304\n");
	tree_put(CGROUPS "/a/memory.current", "1048576\n");
	assert_int_equal(fln_free_memory(tree_root), 3 * MIB);
	tree_put(CGROUPS "/a/b/memory.max", "1048576\n");
	assert_int_equal(fln_free_memory(tree_root), MIB - 4096);
	tree_put(CGROUPS "/a/memory.current", "5242880\n");
	assert_int_equal(fln_free_memory(tree_root), 0);
}

static void the_root_of_a_namespace(void **state)
{
	(void)state;
	tree_put("/proc/self/cgroup", "0::/../b\n");
	tree_put(CGROUPS "/memory.max", "2097152\n");
	tree_put(CGROUPS "/memory.current", "0\n");
	assert_int_equal(fln_free_memory(tree_root), 2 * MIB);
	tree_put("/proc/self/cgroup", "0::/\n");
	assert_int_equal(fln_free_memory(tree_root), 2 * MIB);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(without_cgroups, tree_begin, tree_end),
		cmocka_unit_test_setup_teardown(the_tightest_limit_holds, tree_begin, tree_end),
		cmocka_unit_test_setup_teardown(the_root_of_a_namespace, tree_begin, tree_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
