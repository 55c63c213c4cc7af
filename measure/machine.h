/* SPDX-License-Identifier: MIT */
/*
 * What the machine has, and how busy it is.
 */
#ifndef MEASURE_MACHINE_H
#define MEASURE_MACHINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Processors that this process may use, at least one. */
uint32_t measure_nr_cpus(void);

/*
 * Bytes that are available without swapping, to this process and its memory cgroups; false
 * where /proc does not tell.
 */
bool measure_memory_available(uint64_t *bytes);

/* What this process and the whole machine have used so far. */
struct measure_usage {
	uint64_t wall_ns;
	uint64_t own_cpu_ns;  /* user and system time of this process */
	uint64_t busy_cpu_ns; /* of the machine, with what other machines stole; 10 ms steps */
	uint64_t nr_voluntary_switches;
	uint64_t nr_minor_faults;
};

void measure_usage_read(struct measure_usage *out);

/* Processors' worth of time that went to others between two readings. */
double measure_usage_others(const struct measure_usage *from, const struct measure_usage *to);

#ifdef __cplusplus
}
#endif

#endif
