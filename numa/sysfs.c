/* SPDX-License-Identifier: MIT */
/* Sanity-checks /sys before hwloc reads it (see sysfs.h). */
#include "numa/sysfs.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define NR(array) (sizeof(array) / sizeof((array)[0]))

static bool is_readable(const char *root, const char *dir, const char *entry, const char *file)
{
	char path[1024];
	int len = snprintf(path, sizeof(path), "%s%s/%s/%s", root, dir, entry, file);

	return len > 0 && (size_t)len < sizeof(path) &&
	       /* hwloc makes the same call, so a seccomp filter treats both alike. */
	       faccessat(AT_FDCWD, path, R_OK, AT_EACCESS) == 0;
}

static bool has_processors(const char *root)
{
	static const char *const dirs[] = { "/sys/bus/cpu/devices", "/sys/devices/system/cpu" };
	/* The names since Linux 5.3, then the older ones.  Only cpu0, as hwloc does. */
	static const char *const files[] = { "topology/package_cpus", "topology/core_cpus",
					     "topology/core_siblings", "topology/thread_siblings" };

	for (size_t i = 0; i < NR(dirs); i++) {
		for (size_t j = 0; j < NR(files); j++) {
			if (is_readable(root, dirs[i], "cpu0", files[j]))
				return true;
		}
	}
	return false;
}

static bool has_node(const char *root, const char *path, DIR *dir)
{
	const struct dirent *e;

	while ((e = readdir(dir)) != NULL) {
		if (strncmp(e->d_name, "node", 4) == 0 &&
		    is_readable(root, path, e->d_name, "cpumap"))
			return true;
	}
	return false;
}

/* A kernel without NUMA has no node directory; then hwloc synthesizes one node. */
static bool has_empty_node_dir(const char *root)
{
	static const char *const dirs[] = { "/sys/bus/node/devices", "/sys/devices/system/node" };

	for (size_t i = 0; i < NR(dirs); i++) {
		char path[1024];
		int len = snprintf(path, sizeof(path), "%s%s", root, dirs[i]);
		bool found;
		DIR *dir;

		if (len < 0 || (size_t)len >= sizeof(path))
			continue;
		dir = opendir(path);
		if (!dir)
			continue;
		found = has_node(root, dirs[i], dir);
		(void)closedir(dir);
		if (!found)
			return true;
	}
	return false;
}

bool fln_sysfs_has_topology(const char *root)
{
	return has_processors(root) && !has_empty_node_dir(root);
}
