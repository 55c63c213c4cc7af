/* SPDX-License-Identifier: MIT */
/* Reads the limits and the usage of memory cgroups. */
#include "measure/cgroup.h"

#include "measure/line.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PATH_BYTES 4096u

/* The files of both versions.  Version 1 represents "no limit" by a very large number. */
static const struct version {
	const char *fs, *limit, *used, *cache[2];
} versions[] = {
	{ "cgroup",
	  "memory.limit_in_bytes",
	  "memory.usage_in_bytes",
	  { "total_inactive_file ", "total_active_file " } },
	{ "cgroup2", "memory.max", "memory.current", { "inactive_file ", "active_file " } },
};

static bool read_number(const char *dir, const char *file, uint64_t *out)
{
	char path[PATH_BYTES + 64];

	(void)snprintf(path, sizeof(path), "%s/%s", dir, file);
	return measure_read_number(path, out);
}

static uint64_t read_cache(const char *dir, const struct version *v)
{
	char path[PATH_BYTES + 64], line[128];
	uint64_t sum = 0;

	(void)snprintf(path, sizeof(path), "%s/memory.stat", dir);
	for (int i = 0; i < 2; i++) {
		if (measure_read_line(path, v->cache[i], line, sizeof(line)))
			sum += strtoull(line + strlen(v->cache[i]), NULL, 10);
	}
	return sum;
}

/* False: no limit ("max" in version 2 does not parse as a number). */
static bool read_available(const char *dir, const struct version *v, uint64_t *bytes)
{
	uint64_t limit, used, cache;

	if (!read_number(dir, v->limit, &limit) || limit >= UINT64_MAX / 4 ||
	    !read_number(dir, v->used, &used))
		return false;
	cache = read_cache(dir, v);
	used -= cache < used ? cache : used;
	*bytes = used < limit ? limit - used : 0;
	return true;
}

/* A line of /proc/self/cgroup is N:CONTROLLERS:PATH; version 2 has an empty CONTROLLERS. */
static bool find_cgroup(const char *root, bool v2, char *path)
{
	char name[PATH_BYTES], line[PATH_BYTES];
	bool found = false;
	FILE *f;

	(void)snprintf(name, sizeof(name), "%s/proc/self/cgroup", root);
	f = fopen(name, "re");
	while (f && !found && fgets(line, sizeof(line), f)) {
		char *list = strchr(line, ':'), *at = list ? strchr(list + 1, ':') : NULL;
		char *controller, *rest;

		if (!at)
			continue;
		*at++ = '\0';
		at[strcspn(at, "\n")] = '\0';
		found = v2 && list[1] == '\0';
		for (controller = strtok_r(list + 1, ",", &rest); !v2 && controller;
		     controller = strtok_r(NULL, ",", &rest))
			found |= strcmp(controller, "memory") == 0;
		if (found)
			(void)snprintf(path, PATH_BYTES, "%s", at);
	}
	if (f)
		(void)fclose(f);
	return found;
}

/*
 * Find the hierarchy's mount point, and the cgroup (@top) that is its root.  A line of mountinfo
 * is ID PARENT DEVICE ROOT MOUNT-POINT OPTIONS … - FS SOURCE SUPER-OPTIONS.
 */
static bool find_mount(const char *root, const char *fs, char *mount_point, char *top)
{
	char name[PATH_BYTES], line[2 * PATH_BYTES];
	bool found = false;
	FILE *f;

	(void)snprintf(name, sizeof(name), "%s/proc/self/mountinfo", root);
	f = fopen(name, "re");
	while (f && !found && fgets(line, sizeof(line), f)) {
		char *behind = strstr(line, " - "), type[32], options[512];

		if (!behind || sscanf(behind, " - %31s %*s %511s", type, options) != 2 ||
		    strcmp(type, fs) != 0)
			continue;
		if (strcmp(fs, "cgroup") == 0 && !strstr(options, "memory"))
			continue;
		found = sscanf(line, "%*s %*s %*s %4095s %4095s", top, mount_point) == 2;
	}
	if (f)
		(void)fclose(f);
	return found;
}

/* The minimum over the process's own cgroup and its ancestors, as far as they are mounted. */
static bool find_tightest(const char *root, const struct version *v, uint64_t *bytes)
{
	char path[PATH_BYTES], mount_point[PATH_BYTES], top[PATH_BYTES], dir[PATH_BYTES];
	size_t base, skip;
	bool found = false;

	if (!find_cgroup(root, v == &versions[1], path) ||
	    !find_mount(root, v->fs, mount_point, top))
		return false;
	skip = strcmp(top, "/") == 0 ? 0 : strlen(top);
	/* The path lies outside the mounted part, as in a cgroup namespace: use the part's root. */
	if (strncmp(path, top, skip) != 0) {
		path[0] = '\0';
		skip = 0;
	}
	base = (size_t)snprintf(dir, sizeof(dir), "%s%s", root, mount_point);
	if (base + strlen(path + skip) >= sizeof(dir))
		return false;
	(void)snprintf(dir + base, sizeof(dir) - base, "%s", path + skip);
	for (;;) {
		char *end = strrchr(dir + base, '/');
		uint64_t have;

		if (read_available(dir, v, &have) && (!found || have < *bytes)) {
			*bytes = have;
			found = true;
		}
		if (!end)
			return found;
		*end = '\0';
	}
}

bool measure_cgroup_available(const char *root, uint64_t *bytes)
{
	bool found = false;

	for (size_t i = 0; i < sizeof(versions) / sizeof(versions[0]); i++) {
		uint64_t have;

		if (find_tightest(root, &versions[i], &have) && (!found || have < *bytes)) {
			*bytes = have;
			found = true;
		}
	}
	return found;
}
