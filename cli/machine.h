/* SPDX-License-Identifier: MIT */
/*
 * What the machine has, and how busy it is.
 */
#ifndef CLI_MACHINE_H
#define CLI_MACHINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Processors that this process may use, at least one. */
uint32_t cli_nr_cpus(void);

/* The first line of a file that begins so; false when there is none. */
bool cli_read_line(const char *path, const char *begins, char *line, size_t size);

/* The number in a file that begins with one, such as /proc/sys/vm/max_map_count. */
bool cli_read_number(const char *path, uint64_t *out);

/* Bytes that can be had without swapping; false where /proc does not tell. */
bool cli_memory_available(uint64_t *bytes);

/* What this process and the whole machine have used so far. */
struct cli_usage {
	uint64_t wall_ns;
	uint64_t own_cpu_ns;  /* user and system time of this process */
	uint64_t busy_cpu_ns; /* of the machine, with what other machines stole; 10 ms steps */
	uint64_t nr_voluntary_switches;
	uint64_t nr_minor_faults;
};

void cli_usage_read(struct cli_usage *out);

/* Processors' worth of time that went to others between two readings. */
double cli_usage_others(const struct cli_usage *from, const struct cli_usage *to);

#endif
