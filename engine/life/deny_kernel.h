/* SPDX-License-Identifier: MIT */
/*
 * What deny.c does to this process's mappings: mmap(), mprotect(), /proc/self/pagemap.
 */
#ifndef FLN_ENGINE_LIFE_DENY_KERNEL_H
#define FLN_ENGINE_LIFE_DENY_KERNEL_H

#include "engine/memory_ops.h"

extern const struct fln_memory_ops fln_kernel_memory;

#endif
