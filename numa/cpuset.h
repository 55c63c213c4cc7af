/* SPDX-License-Identifier: MIT */
/*
 * Sets of processors, and the lists that people write: "0-3,8".
 */
#ifndef FLN_NUMA_CPUSET_H
#define FLN_NUMA_CPUSET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What the kernel can be built for at most, on x86 and Arm today. */
#define FLN_MAX_PUS 8192u

struct fln_cpuset {
	uint64_t w[FLN_MAX_PUS / 64];
};

/* Processors, or nodes, beyond the set's end are in no set. */
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
 * fln_cpuset_parse() - Read a list such as "0-3,8"
 * @set:  written only on success
 * @list: at least one number
 * @what: what the list is called, for the sentence
 *
 * Return:  0; -EINVAL
 * Threads: any
 * Blocks:  no
 */
int fln_cpuset_parse(struct fln_cpuset *set, const char *list, const char *what);

/**
 * fln_cpuset_format() - Write a set as a list, "-" for an empty one
 * @buf:     receives it, ended by a zero byte; cut with "..." when it is longer
 * @buf_len: at least 16
 *
 * Return:  @buf
 * Threads: any
 * Blocks:  no
 */
const char *fln_cpuset_format(const struct fln_cpuset *set, char *buf, size_t buf_len);

#endif
