/* SPDX-License-Identifier: MIT */
/*
 * How much memory is free: of the host, or less where the limit of a memory cgroup (version 2)
 * leaves less.
 *
 * Tested by unit.free_memory.
 */
#include "sources/free_memory.h"

#include "base/fd.h"
#include "base/page.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CGROUPS "/sys/fs/cgroup"
#define PATH_BYTES 1024u

/* The beginning of a file, as a string. */
static bool read_text(const char *path, char *text, size_t size)
{
	int fd = fln_fd_keep(open(path, O_RDONLY | O_CLOEXEC));
	ssize_t n = fd >= 0 ? read(fd, text, size - 1) : -1;

	if (fd >= 0)
		(void)close(fd);
	text[n > 0 ? n : 0] = '\0';
	return n > 0;
}

/* False: there is none, or it is "max". */
static bool read_number(const char *dir, const char *name, uint64_t *out)
{
	char path[PATH_BYTES + 32], text[32], *end;

	(void)snprintf(path, sizeof(path), "%s/%s", dir, name);
	if (!read_text(path, text, sizeof(text)))
		return false;
	*out = strtoull(text, &end, 10);
	return end != text;
}

/* The path of the process's cgroup of version 2, which has an empty list of controllers. */
static bool find_cgroup(const char *root, char *path, size_t size)
{
	char name[PATH_BYTES], text[4096];
	const char *at;

	(void)snprintf(name, sizeof(name), "%s/proc/self/cgroup", root);
	if (!read_text(name, text, sizeof(text)))
		return false;
	at = strncmp(text, "0::", 3) == 0 ? text : strstr(text, "\n0::");
	if (!at)
		return false;
	at = strstr(at, "0::") + 3;
	(void)snprintf(path, size, "%.*s", (int)strcspn(at, "\n"), at);
	return true;
}

uint64_t fln_free_memory(const char *root)
{
	long nr_free = sysconf(_SC_AVPHYS_PAGES);
	uint64_t least = nr_free > 0 ? fln_pages_to_bytes((uint64_t)nr_free) : 0, limit, used;
	char dir[PATH_BYTES], path[PATH_BYTES / 2];
	size_t base;

	if (!find_cgroup(root, path, sizeof(path)))
		return least;
	base = (size_t)snprintf(dir, sizeof(dir) - sizeof(path), "%s" CGROUPS, root);
	if (base >= sizeof(dir) - sizeof(path))
		return least;
	/* Of cgroups outside our namespace ("/..") only the root that we see is looked at. */
	(void)snprintf(dir + base, sizeof(path), "%s", strstr(path, "/..") ? "" : path);
	for (;;) {
		char *end;

		if (read_number(dir, "memory.max", &limit) &&
		    read_number(dir, "memory.current", &used)) {
			limit = used < limit ? limit - used : 0;
			least = limit < least ? limit : least;
		}
		end = strrchr(dir + base, '/');
		if (!end)
			return least;
		*end = '\0';
	}
}
