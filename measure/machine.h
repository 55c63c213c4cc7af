/* SPDX-License-Identifier: MIT */
/*
 * The machine's processors and memory, and how busy it is.
 */
#ifndef MEASURE_MACHINE_H
#define MEASURE_MACHINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The number of processors that this process may use, at least one. */
uint32_t measure_nr_cpus(void);

/*
 * Bytes that this process can allocate without swapping, within the limits of its memory cgroups;
 * false when unknown.
 */
bool measure_memory_available(uint64_t *bytes);

/* Resources used so far by this process and by the whole machine. */
struct measure_usage {
	uint64_t wall_ns;
	uint64_t own_cpu_ns;  /* user and system time of this process */
	uint64_t busy_cpu_ns; /* of the machine, including steal time; in steps of 10 ms */
	uint64_t nr_voluntary_switches;
	uint64_t nr_minor_faults;
};

void measure_usage_read(struct measure_usage *out);

/* CPU time used by others between two readings, as an average number of processors. */
double measure_usage_others(const struct measure_usage *from, const struct measure_usage *to);

#ifdef __cplusplus
}
#endif

#endif
