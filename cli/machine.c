/* SPDX-License-Identifier: MIT */
/* Readings of /proc and of the scheduler. */
#include "cli/machine.h"

#include "cli/clock.h"

#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

uint32_t cli_nr_cpus(void)
{
	cpu_set_t set;
	int nr;

	if (sched_getaffinity(0, sizeof(set), &set) != 0) {
		long online = sysconf(_SC_NPROCESSORS_ONLN); /* more than a cpu_set_t holds */

		return online > 0 ? (uint32_t)online : 1;
	}
	nr = CPU_COUNT(&set);
	return nr > 0 ? (uint32_t)nr : 1;
}

bool cli_read_number(const char *path, uint64_t *out)
{
	FILE *f = fopen(path, "re");
	bool got;

	if (!f)
		return false;
	got = fscanf(f, "%" SCNu64, out) == 1;
	(void)fclose(f);
	return got;
}

bool cli_memory_available(uint64_t *bytes)
{
	FILE *f = fopen("/proc/meminfo", "re");
	char line[128];
	bool got = false;

	if (!f)
		return false;
	while (!got && fgets(line, sizeof(line), f))
		got = sscanf(line, "MemAvailable: %" SCNu64 " kB", bytes) == 1;
	(void)fclose(f);
	*bytes *= got ? 1024 : 1;
	return got;
}

/* The first line of /proc/stat: user nice system idle iowait irq softirq steal … */
static uint64_t machine_busy_ns(void)
{
	FILE *f = fopen("/proc/stat", "re");
	uint64_t t[8] = { 0 };
	long hz = sysconf(_SC_CLK_TCK);
	uint64_t ticks;

	if (!f)
		return 0;
	if (fscanf(f,
		   "cpu %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64
		   " %" SCNu64 " %" SCNu64,
		   &t[0], &t[1], &t[2], &t[3], &t[4], &t[5], &t[6], &t[7]) < 4)
		memset(t, 0, sizeof(t));
	(void)fclose(f);
	ticks = t[0] + t[1] + t[2] + t[5] + t[6] + t[7];
	return ticks * (1000000000u / (uint64_t)(hz > 0 ? hz : 100));
}

static uint64_t timeval_ns(struct timeval tv)
{
	return (uint64_t)tv.tv_sec * 1000000000u + (uint64_t)tv.tv_usec * 1000u;
}

void cli_usage_read(struct cli_usage *out)
{
	struct rusage usage;

	out->busy_cpu_ns = machine_busy_ns();
	(void)getrusage(RUSAGE_SELF, &usage);
	out->wall_ns = cli_now_ns();
	out->own_cpu_ns = timeval_ns(usage.ru_utime) + timeval_ns(usage.ru_stime);
	out->nr_voluntary_switches = (uint64_t)usage.ru_nvcsw;
	out->nr_minor_faults = (uint64_t)usage.ru_minflt;
}

double cli_usage_others(const struct cli_usage *from, const struct cli_usage *to)
{
	double busy_ns = (double)to->busy_cpu_ns - (double)from->busy_cpu_ns;
	double own_ns = (double)to->own_cpu_ns - (double)from->own_cpu_ns;
	double wall_ns = (double)to->wall_ns - (double)from->wall_ns;

	return wall_ns > 0 && busy_ns > own_ns ? (busy_ns - own_ns) / wall_ns : 0.0;
}
