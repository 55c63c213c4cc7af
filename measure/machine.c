/* SPDX-License-Identifier: MIT */
/* Reads /proc and the scheduler's state. */
#include "measure/machine.h"

#include "measure/cgroup.h"
#include "measure/clock.h"
#include "measure/line.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

uint32_t measure_nr_cpus(void)
{
	cpu_set_t set;
	int nr;

	if (sched_getaffinity(0, sizeof(set), &set) != 0) {
		long online = sysconf(_SC_NPROCESSORS_ONLN); /* more CPUs than cpu_set_t holds */

		return online > 0 ? (uint32_t)online : 1;
	}
	nr = CPU_COUNT(&set);
	return nr > 0 ? (uint32_t)nr : 1;
}

bool measure_memory_available(uint64_t *bytes)
{
	static const char begins[] = "MemAvailable:";
	uint64_t in_cgroup;
	char line[128];

	if (!measure_read_line("/proc/meminfo", begins, line, sizeof(line)))
		return false;
	*bytes = strtoull(line + sizeof(begins) - 1, NULL, 10) * 1024;
	if (measure_cgroup_available("", &in_cgroup) && in_cgroup < *bytes)
		*bytes = in_cgroup;
	return true;
}

/* The first line of /proc/stat: cpu user nice system idle iowait irq softirq steal … */
static uint64_t machine_busy_ns(void)
{
	char line[256];
	char *at = line + strlen("cpu ");
	long hz = sysconf(_SC_CLK_TCK);
	uint64_t ticks = 0;

	if (!measure_read_line("/proc/stat", "cpu ", line, sizeof(line)))
		return 0;
	for (int i = 0; i < 8; i++) {
		uint64_t n = strtoull(at, &at, 10);

		if (i != 3 && i != 4) /* skip idle and iowait */
			ticks += n;
	}
	return ticks * (1000000000u / (uint64_t)(hz > 0 ? hz : 100));
}

static uint64_t timeval_ns(struct timeval tv)
{
	return (uint64_t)tv.tv_sec * 1000000000u + (uint64_t)tv.tv_usec * 1000u;
}

void measure_usage_read(struct measure_usage *out)
{
	struct rusage usage;

	out->busy_cpu_ns = machine_busy_ns();
	(void)getrusage(RUSAGE_SELF, &usage);
	out->wall_ns = measure_now_ns();
	out->own_cpu_ns = timeval_ns(usage.ru_utime) + timeval_ns(usage.ru_stime);
	out->nr_voluntary_switches = (uint64_t)usage.ru_nvcsw;
	out->nr_minor_faults = (uint64_t)usage.ru_minflt;
}

double measure_usage_others(const struct measure_usage *from, const struct measure_usage *to)
{
	double busy_ns = (double)to->busy_cpu_ns - (double)from->busy_cpu_ns;
	double own_ns = (double)to->own_cpu_ns - (double)from->own_cpu_ns;
	double wall_ns = (double)to->wall_ns - (double)from->wall_ns;

	return wall_ns > 0 && busy_ns > own_ns ? (busy_ns - own_ns) / wall_ns : 0.0;
}
