/* SPDX-License-Identifier: MIT */
/* The memory that this process may still allocate, as far as that is easily told. */
#ifndef FLN_SOURCES_FREE_MEMORY_H
#define FLN_SOURCES_FREE_MEMORY_H

#include <stdint.h>

/*
 * What is free now, and not in use as file cache either; with cgroups of version 2 at most what the
 * limits of the process's own and of its ancestors leave.  @root is prepended to each path ("":
 * this machine).  0: unknown.  Reads files of /proc and /sys.
 */
uint64_t fln_free_memory(const char *root);

#endif
