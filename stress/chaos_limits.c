/* SPDX-License-Identifier: MIT */
/*
 * Exhausted limits: descriptors, mappings, memory, and a worker that gets no processor.
 */
#include "stress/chaos_limits.h"

#include "stress/complain.h"
#include "stress/stress.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define DESCRIPTOR_LIMIT 2048u

static char cgroup[128];
static struct rlimit old_limit;

bool chaos_descriptors(struct stress *s, struct rng *rng)
{
	static int fds[DESCRIPTOR_LIMIT];
	uint32_t nr = 0;
	bool full;

	(void)s;
	while (nr < DESCRIPTOR_LIMIT && (fds[nr] = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0)
		nr++;
	full = nr < DESCRIPTOR_LIMIT && errno == EMFILE;
	sleep_ms(1 + rng_below(rng, 30));
	while (nr > 0)
		(void)close(fds[--nr]);
	return full;
}

/* Use up mappings: every second page of a range gets another protection, so each page is one. */
bool chaos_mappings(struct stress *s, struct rng *rng)
{
	size_t nr = 70000, len = nr * PAGE_BYTES;
	char *p = mmap(NULL, len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	bool full = false;

	(void)s;
	if (p == MAP_FAILED)
		return false;
	for (size_t i = 0; i < nr && !full; i += 2)
		full = mprotect(p + i * PAGE_BYTES, PAGE_BYTES, PROT_READ) != 0 && errno == ENOMEM;
	sleep_ms(1 + rng_below(rng, 30));
	(void)munmap(p, len);
	return full;
}

static bool write_file(const char *dir, const char *name, const char *text)
{
	char path[192];
	ssize_t len = (ssize_t)strlen(text);
	bool ok;
	int fd;

	(void)snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	ok = write(fd, text, (size_t)len) == len;
	(void)close(fd);
	return ok;
}

static uint64_t read_number(const char *dir, const char *name)
{
	char path[192], line[32] = "";
	FILE *f;

	(void)snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "re");
	if (!f)
		return 0;
	if (!fgets(line, sizeof(line), f))
		line[0] = '\0';
	(void)fclose(f);
	return strtoull(line, NULL, 10);
}

/* Set the limit to the current use for a moment: the kernel throttles every thread that allocates. */
bool chaos_memory(struct stress *s, struct rng *rng)
{
	uint64_t used = read_number(cgroup, "memory.current");
	char text[32];
	bool ok;

	(void)s;
	(void)snprintf(text, sizeof(text), "%llu", (unsigned long long)used);
	ok = used > 0 && write_file(cgroup, "memory.high", text);
	sleep_ms(10 + rng_below(rng, 50));
	return write_file(cgroup, "memory.high", "max") && ok;
}

/* Find the engine's workers by their names; returns how many, at most @max. */
static uint32_t find_workers(pid_t *tids, uint32_t max)
{
	DIR *dir = opendir("/proc/self/task");
	struct dirent *e;
	uint32_t nr = 0;

	while (dir && nr < max && (e = readdir(dir)) != NULL) {
		char path[320], name[32] = "";
		FILE *f;

		if (e->d_name[0] == '.')
			continue;
		(void)snprintf(path, sizeof(path), "/proc/self/task/%s/comm", e->d_name);
		f = fopen(path, "re");
		if (!f)
			continue;
		if (fgets(name, sizeof(name), f) && strncmp(name, "fln-worker", 10) == 0)
			tids[nr++] = (pid_t)strtol(e->d_name, NULL, 10);
		(void)fclose(f);
	}
	if (dir)
		(void)closedir(dir);
	return nr;
}

/* A worker gets a processor only when no other thread wants it. */
bool chaos_stall(struct stress *s, struct rng *rng)
{
	struct sched_param p = { .sched_priority = 0 };
	pid_t tids[64];
	uint32_t nr = find_workers(tids, 64);
	pid_t tid;

	(void)s;
	if (nr == 0)
		return false;
	tid = tids[rng_below(rng, nr)];
	if (sched_setscheduler(tid, SCHED_IDLE, &p) != 0)
		return false;
	sleep_ms(10 + rng_below(rng, 100));
	return sched_setscheduler(tid, SCHED_OTHER, &p) == 0;
}

static rlim_t least(rlim_t a, rlim_t b)
{
	return a < b ? a : b;
}

static const char *prepare_cgroup(void)
{
	char text[32];

	(void)snprintf(cgroup, sizeof(cgroup), "/sys/fs/cgroup/faultlane-stress-%d", (int)getpid());
	if (mkdir(cgroup, 0755) != 0) {
		cgroup[0] = '\0';
		return "no cgroup can be made in /sys/fs/cgroup";
	}
	(void)snprintf(text, sizeof(text), "%d", (int)getpid());
	if (access("/sys/fs/cgroup/cgroup.controllers", R_OK) != 0 ||
	    !write_file(cgroup, "memory.high", "max") ||
	    !write_file(cgroup, "cgroup.procs", text)) {
		(void)rmdir(cgroup);
		cgroup[0] = '\0';
		return "the memory controller of cgroup v2 is unavailable";
	}
	return NULL;
}

static void undo_descriptors(struct stress *s)
{
	(void)s;
	(void)setrlimit(RLIMIT_NOFILE, &old_limit);
}

static void leave_cgroup(struct stress *s)
{
	char text[32];

	(void)s;
	if (!cgroup[0])
		return;
	(void)snprintf(text, sizeof(text), "%d", (int)getpid());
	(void)write_file("/sys/fs/cgroup", "cgroup.procs", text);
	(void)rmdir(cgroup);
	cgroup[0] = '\0';
}

const char *chaos_limits_prepare(struct stress *s, enum chaos_kind kind)
{
	struct rlimit limit;

	switch (kind) {
	case CHAOS_DESCRIPTORS:
		undo_at_end(undo_descriptors);
		(void)getrlimit(RLIMIT_NOFILE, &old_limit);
		limit = old_limit;
		limit.rlim_cur =
			least(limit.rlim_cur,
			      DESCRIPTOR_LIMIT / 2 + (s->opts.kvm ? s->opts.nr_threads : 0));
		return setrlimit(RLIMIT_NOFILE, &limit) == 0 ? NULL : "RLIMIT_NOFILE cannot be set";
	case CHAOS_MAPPINGS:
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
		return "the sanitizer ends a program that has no mapping left";
#else
		return read_number("/proc/sys/vm", "max_map_count") > 69000
			       ? "vm.max_map_count is larger than 69000"
			       : NULL;
#endif
	case CHAOS_MEMORY:
		undo_at_end(leave_cgroup);
		return prepare_cgroup();
	default:
		return NULL;
	}
}
