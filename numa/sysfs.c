/* SPDX-License-Identifier: MIT */
/* A look at /sys before hwloc's; the reason is in sysfs.h. */
#include "numa/sysfs.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define NR(array) (sizeof(array) / sizeof((array)[0]))

static bool has(const char *root, const char *folder, const char *entry, const char *file)
{
	char path[1024];
	int len = snprintf(path, sizeof(path), "%s%s/%s/%s", root, folder, entry, file);

	return len > 0 && (size_t)len < sizeof(path) &&
	       /* By the same system call as hwloc, for filters. */
	       faccessat(AT_FDCWD, path, R_OK, AT_EACCESS) == 0;
}

static bool has_processors(const char *root)
{
	static const char *const folders[] = { "/sys/bus/cpu/devices", "/sys/devices/system/cpu" };
	/* Names of 5.1 on, and those before. */
	static const char *const files[] = { "topology/package_cpus", "topology/core_cpus",
					     "topology/core_siblings", "topology/thread_siblings" };

	for (size_t i = 0; i < NR(folders); i++) {
		for (size_t j = 0; j < NR(files); j++) {
			if (has(root, folders[i], "cpu0", files[j]))
				return true;
		}
	}
	return false;
}

static bool has_node(const char *root, const char *folder, DIR *dir)
{
	const struct dirent *e;

	while ((e = readdir(dir)) != NULL) {
		if (strncmp(e->d_name, "node", 4) == 0 && has(root, folder, e->d_name, "cpumap"))
			return true;
	}
	return false;
}

/* A kernel without NUMA has no folder for nodes, and hwloc makes one up. */
static bool lacks_nodes(const char *root)
{
	static const char *const folders[] = { "/sys/bus/node/devices",
					       "/sys/devices/system/node" };

	for (size_t i = 0; i < NR(folders); i++) {
		char path[1024];
		bool found;
		DIR *dir;

		(void)snprintf(path, sizeof(path), "%s%s", root, folders[i]);
		dir = opendir(path);
		if (!dir)
			continue;
		found = has_node(root, folders[i], dir);
		(void)closedir(dir);
		if (!found)
			return true;
	}
	return false;
}

bool fln_sysfs_has_topology(const char *root)
{
	return has_processors(root) && !lacks_nodes(root);
}
