/* SPDX-License-Identifier: MIT */
/* Reads /proc/self/task and threads' CPU clocks. */
#include "measure/tasks.h"

#include "measure/line.h"
#include "measure/machine.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* The id of another thread's CPU-time clock (CPUCLOCK_SCHED, per thread). */
static clockid_t thread_clock(pid_t tid)
{
	return (clockid_t)((~(unsigned int)tid << 3) | 6u);
}

/* The second number of schedstat, whose format is "run-time wait-time slices". */
static uint64_t wait_ns(pid_t tid)
{
	char path[64], line[128], *end;

	(void)snprintf(path, sizeof(path), "/proc/self/task/%d/schedstat", (int)tid);
	if (!measure_read_line(path, "", line, sizeof(line)))
		return 0;
	(void)strtoull(line, &end, 10);
	return strtoull(end, NULL, 10);
}

static uint64_t nr_switches(pid_t tid)
{
	static const char begins[] = "voluntary_ctxt_switches:";
	char path[64], line[128];

	(void)snprintf(path, sizeof(path), "/proc/self/task/%d/status", (int)tid);
	if (!measure_read_line(path, begins, line, sizeof(line)))
		return 0;
	return strtoull(line + sizeof(begins) - 1, NULL, 10);
}

void measure_task_add(pid_t tid, struct measure_task *sum)
{
	struct timespec ts;

	if (clock_gettime(thread_clock(tid), &ts) != 0)
		return;
	sum->cpu_ns += (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
	sum->wait_ns += wait_ns(tid);
	sum->nr_switches += nr_switches(tid);
}

static bool is_among(pid_t tid, const pid_t *tids, uint32_t nr)
{
	for (uint32_t i = 0; i < nr; i++) {
		if (tids[i] == tid)
			return true;
	}
	return false;
}

void measure_tasks_add_others(const pid_t *except, uint32_t nr, struct measure_task *sum)
{
	DIR *dir = opendir("/proc/self/task");
	const struct dirent *entry;

	if (!dir)
		return;
	while ((entry = readdir(dir))) {
		pid_t tid = (pid_t)strtol(entry->d_name, NULL, 10);

		if (tid > 0 && !is_among(tid, except, nr))
			measure_task_add(tid, sum);
	}
	(void)closedir(dir);
}

bool measure_tasks_have_wait(void)
{
	char path[64];

	(void)snprintf(path, sizeof(path), "/proc/self/task/%d/schedstat", (int)getpid());
	return access(path, R_OK) == 0;
}
