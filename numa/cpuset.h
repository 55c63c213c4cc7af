/* SPDX-License-Identifier: MIT */
/*
 * Sets of processors, and their text form: lists such as "0-3,8".
 */
#ifndef FLN_NUMA_CPUSET_H
#define FLN_NUMA_CPUSET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The largest NR_CPUS that the kernel can be configured for, on x86 and Arm today. */
#define FLN_MAX_PUS 8192u

struct fln_cpuset {
	uint64_t w[FLN_MAX_PUS / 64];
};

/* Processors from FLN_MAX_PUS on are in no set. */
static inline bool fln_cpuset_has(const struct fln_cpuset *set, uint32_t os_index)
{
	return os_index < FLN_MAX_PUS && (set->w[os_index / 64] >> (os_index % 64) & 1);
}

static inline void fln_cpuset_add(struct fln_cpuset *set, uint32_t os_index)
{
	if (os_index < FLN_MAX_PUS)
		set->w[os_index / 64] |= UINT64_C(1) << (os_index % 64);
}

/**
 * fln_cpuset_parse() - Parse a list such as "0-3,8"
 * @set:  written only on success
 * @list: at least one number
 * @what: the name of the list, for the error message
 *
 * Return:  0; -EINVAL
 * Threads: any
 * Blocks:  no
 */
int fln_cpuset_parse(struct fln_cpuset *set, const char *list, const char *what);

/**
 * fln_cpuset_format() - Format a set as a list; an empty set gives "-"
 * @buf:     receives the list, NUL-terminated; a list that does not fit ends in "..."
 * @buf_len: at least 16
 *
 * Return:  @buf
 * Threads: any
 * Blocks:  no
 */
const char *fln_cpuset_format(const struct fln_cpuset *set, char *buf, size_t buf_len);

#endif
