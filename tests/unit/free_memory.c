/* SPDX-License-Identifier: MIT */
/* Free memory is what cgroups leave of it. */
#include "sources/free_memory.h"

#include "tests/support/cm.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MIB (UINT64_C(1) << 20)
#define CGROUPS "/sys/fs/cgroup"

static char root[64];

static void put(const char *dir, const char *name, const char *text)
{
	char path[256];
	FILE *f;

	(void)snprintf(path, sizeof(path), "%s%s/%s", root, dir, name);
	for (char *at = path + strlen(root) + 1; (at = strchr(at, '/')) != NULL; at++) {
		*at = '\0';
		(void)mkdir(path, 0700);
		*at = '/';
	}
	f = fopen(path, "we");
	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
}

static int begin(void **state)
{
	(void)state;
	(void)snprintf(root, sizeof(root), "/tmp/fln-free-XXXXXX");
	return mkdtemp(root) ? 0 : -1;
}

static int end(void **state)
{
	char command[128];

	(void)state;
	(void)snprintf(command, sizeof(command), "rm -r '%s'", root);
	return system(command); /* NOLINT(cert-env33-c): a path of our own */
}

static void without_cgroups(void **state)
{
	(void)state;
	assert_true(fln_free_memory(root) > 4 * MIB);
	put("/proc/self", "cgroup", "4:memory:/a\n");
	put(CGROUPS "/a", "memory.max", "1\n");
	put(CGROUPS "/a", "memory.current", "0\n");
	assert_true(fln_free_memory(root) > 4 * MIB);
}

static void the_tightest_limit_holds(void **state)
{
	(void)state;
	put("/proc/self", "cgroup", "4:cpu:/x\n0::/a/b\n1:name=c:/y\n");
	put(CGROUPS "/a/b", "memory.max", "max\n");
	put(CGROUPS "/a/b", "memory.current", "4096\n");
	assert_true(fln_free_memory(root) > 4 * MIB);
	put(CGROUPS "/a", "memory.max", "4194304\n");
	put(CGROUPS "/a", "memory.current", "1048576\n");
	assert_int_equal(fln_free_memory(root), 3 * MIB);
	put(CGROUPS "/a/b", "memory.max", "1048576\n");
	assert_int_equal(fln_free_memory(root), MIB - 4096);
	put(CGROUPS "/a", "memory.current", "5242880\n");
	assert_int_equal(fln_free_memory(root), 0);
}

static void the_root_of_a_namespace(void **state)
{
	(void)state;
	put("/proc/self", "cgroup", "0::/../b\n");
	put(CGROUPS, "memory.max", "2097152\n");
	put(CGROUPS, "memory.current", "0\n");
	assert_int_equal(fln_free_memory(root), 2 * MIB);
	put("/proc/self", "cgroup", "0::/\n");
	assert_int_equal(fln_free_memory(root), 2 * MIB);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(without_cgroups, begin, end),
		cmocka_unit_test_setup_teardown(the_tightest_limit_holds, begin, end),
		cmocka_unit_test_setup_teardown(the_root_of_a_namespace, begin, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
