/* SPDX-License-Identifier: MIT */
/*
 * What memory cgroups leave this process.
 */
#ifndef MEASURE_CGROUP_H
#define MEASURE_CGROUP_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Bytes that the process may still take, by the tightest of its memory cgroup and those
 * around it: the limit, less what is used, but for file cache, which the kernel drops.
 * Version 1 and 2, where they are mounted.  @root comes before each path ("": this machine).
 * False where no limit is known.
 */
bool measure_cgroup_available(const char *root, uint64_t *bytes);

#ifdef __cplusplus
}
#endif

#endif
