/* SPDX-License-Identifier: MIT */
/*
 * The memory that cgroup limits leave to this process.
 */
#ifndef MEASURE_CGROUP_H
#define MEASURE_CGROUP_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Bytes that the process may still allocate, by the tightest limit among its memory cgroup and
 * the cgroup's ancestors: the limit minus the usage without file cache, which the kernel can
 * reclaim.  Supports cgroup versions 1 and 2 where mounted.  @root is prepended to each path
 * ("": this machine).  False: no limit is known.
 */
bool measure_cgroup_available(const char *root, uint64_t *bytes);

#ifdef __cplusplus
}
#endif

#endif
