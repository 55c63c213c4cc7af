/* SPDX-License-Identifier: MIT */
/*
 * Walks the mappings of this process.
 *
 * The kernel writes /proc/self/maps as text, from the lowest address on: 0.3 us for each mapping,
 * wanted or not.  Where it can be asked for one mapping by address (PROCMAP_QUERY) a call takes
 * 2 us.  So a walk begins with queries, which is what a small region needs among tens of
 * thousands of mappings, and goes on as text if it turns out to be long, or if a query fails.
 *
 * A query that finds nothing counts as failed: a system call filter may refuse it with any errno,
 * or pretend that it succeeded, and no mapping may be missed.
 */
#include "engine/maps.h"

#include "base/fd.h"
#include "engine/proc_compat.h"
#include "engine/vacant.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>

#define MAX_QUERIES 64u
#define NAME_BYTES 512u

int fln_maps_open(struct fln_maps *maps, uint64_t addr)
{
	*maps = (struct fln_maps){ .file = fln_fd_fopen("/proc/self/maps"), .at = addr };
	return maps->file ? 0 : -errno;
}

void fln_maps_close(struct fln_maps *maps)
{
	(void)fclose(maps->file);
}

/* "lo-hi perms offset major:minor inode path": all numbers but the inode are hexadecimal. */
bool fln_maps_parse_line(const char *line, struct fln_map *m)
{
	unsigned long major, minor;
	char *at;

	m->lo = strtoull(line, &at, 16);
	if (*at != '-')
		return false;
	m->hi = strtoull(at + 1, &at, 16);
	if (*at != ' ' || strlen(at) < sizeof(" rwxs 0"))
		return false;
	m->accessible = at[1] == 'r' || at[2] == 'w' || at[3] == 'x';
	m->shared = at[4] == 's';
	m->offset = strtoull(at + 6, &at, 16);
	major = strtoul(at, &at, 16);
	if (*at != ':')
		return false;
	minor = strtoul(at + 1, &at, 16);
	m->device = makedev((unsigned int)major, (unsigned int)minor);
	m->inode = strtoull(at, &at, 10);
	at += strspn(at, " ");
	m->vacant = strncmp(at, FLN_VACANT_PATH "\n", sizeof(FLN_VACANT_PATH)) == 0;
	return true;
}

static bool next_line(FILE *file, struct fln_map *m)
{
	bool begins = true; /* @line holds the beginning of a line: paths can be longer */
	char line[512];

	while (fgets(line, sizeof(line), file)) {
		bool found = begins && fln_maps_parse_line(line, m);

		begins = strchr(line, '\n') != NULL;
		if (found) {
			while (!begins && fgets(line, sizeof(line), file))
				begins = strchr(line, '\n') != NULL;
			return true;
		}
	}
	return false;
}

/* Return: 0 or -errno. */
static int next_by_query(struct fln_maps *maps, struct fln_map *m)
{
	const uint64_t any = PROCMAP_QUERY_VMA_READABLE | PROCMAP_QUERY_VMA_WRITABLE |
			     PROCMAP_QUERY_VMA_EXECUTABLE;
	char name[NAME_BYTES] = "";
	struct procmap_query q = {
		.size = sizeof(q),
		.query_flags = PROCMAP_QUERY_COVERING_OR_NEXT_VMA,
		.query_addr = maps->at,
		.vma_name_addr = (uintptr_t)name,
		.vma_name_size = sizeof(name),
	};

	if (ioctl(fileno(maps->file), PROCMAP_QUERY, &q) != 0)
		return -errno;
	if (q.vma_end <= maps->at)
		return -EIO;
	*m = (struct fln_map){
		.lo = q.vma_start,
		.hi = q.vma_end,
		.offset = q.vma_offset,
		.inode = q.inode,
		.device = makedev(q.dev_major, q.dev_minor),
		.shared = (q.vma_flags & PROCMAP_QUERY_VMA_SHARED) != 0,
		.accessible = (q.vma_flags & any) != 0,
		.vacant = q.vma_name_size && strcmp(name, FLN_VACANT_PATH) == 0,
	};
	return 0;
}

bool fln_maps_next(struct fln_maps *maps, struct fln_map *m)
{
	if (!maps->as_text)
		maps->as_text = maps->nr_queries++ >= MAX_QUERIES || next_by_query(maps, m) != 0;
	while (maps->as_text) {
		if (!next_line(maps->file, m))
			return false;
		if (m->hi > maps->at)
			break;
	}
	maps->at = m->hi;
	return true;
}
