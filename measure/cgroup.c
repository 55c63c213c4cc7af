/* SPDX-License-Identifier: MIT */
/* Readings of memory cgroups. */
#include "measure/cgroup.h"

#include "measure/line.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PATH_BYTES 4096u

/* Files of the two versions; version 1 writes no limit as a very large number. */
static const struct version {
	const char *fs, *limit, *used, *cache[2];
} versions[] = {
	{ "cgroup",
	  "memory.limit_in_bytes",
	  "memory.usage_in_bytes",
	  { "total_inactive_file ", "total_active_file " } },
	{ "cgroup2", "memory.max", "memory.current", { "inactive_file ", "active_file " } },
};

static bool number_in(const char *folder, const char *file, uint64_t *out)
{
	char path[PATH_BYTES + 64];

	(void)snprintf(path, sizeof(path), "%s/%s", folder, file);
	return measure_read_number(path, out);
}

static uint64_t cache_in(const char *folder, const struct version *v)
{
	char path[PATH_BYTES + 64], line[128];
	uint64_t sum = 0;

	(void)snprintf(path, sizeof(path), "%s/memory.stat", folder);
	for (int i = 0; i < 2; i++) {
		if (measure_read_line(path, v->cache[i], line, sizeof(line)))
			sum += strtoull(line + strlen(v->cache[i]), NULL, 10);
	}
	return sum;
}

/* "max" is no number: no limit. */
static bool available_in(const char *folder, const struct version *v, uint64_t *bytes)
{
	uint64_t limit, used, cache;

	if (!number_in(folder, v->limit, &limit) || limit >= UINT64_MAX / 4 ||
	    !number_in(folder, v->used, &used))
		return false;
	cache = cache_in(folder, v);
	used -= cache < used ? cache : used;
	*bytes = used < limit ? limit - used : 0;
	return true;
}

/* The hierarchy's line is N:CONTROLLERS:PATH; of version 2 the list is empty. */
static bool find_cgroup(const char *root, bool second, char *path)
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
		found = second && list[1] == '\0';
		for (controller = strtok_r(list + 1, ",", &rest); !second && controller;
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
 * Where the hierarchy is mounted, and what of it.  A line of mountinfo: ID PARENT DEVICE ROOT
 * PLACE OPTIONS … - FS SOURCE SUPER-OPTIONS.
 */
static bool find_mount(const char *root, const char *fs, char *place, char *top)
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
		found = sscanf(line, "%*s %*s %*s %4095s %4095s", top, place) == 2;
	}
	if (f)
		(void)fclose(f);
	return found;
}

/* From the process' own cgroup up to what is mounted, which may be less than all of them. */
static bool tightest(const char *root, const struct version *v, uint64_t *bytes)
{
	char path[PATH_BYTES], place[PATH_BYTES], top[PATH_BYTES], folder[PATH_BYTES];
	size_t base, skip;
	bool found = false;

	if (!find_cgroup(root, v == &versions[1], path) || !find_mount(root, v->fs, place, top))
		return false;
	skip = strcmp(top, "/") == 0 ? 0 : strlen(top);
	/* Of another part of the hierarchy, as in a cgroup namespace: its own top, at least. */
	if (strncmp(path, top, skip) != 0) {
		path[0] = '\0';
		skip = 0;
	}
	base = (size_t)snprintf(folder, sizeof(folder), "%s%s", root, place);
	if (base + strlen(path + skip) >= sizeof(folder))
		return false;
	(void)snprintf(folder + base, sizeof(folder) - base, "%s", path + skip);
	for (;;) {
		char *end = strrchr(folder + base, '/');
		uint64_t have;

		if (available_in(folder, v, &have) && (!found || have < *bytes)) {
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

		if (tightest(root, &versions[i], &have) && (!found || have < *bytes)) {
			*bytes = have;
			found = true;
		}
	}
	return found;
}
