/* SPDX-License-Identifier: MIT */
/*
 * This process's mappings, as the kernel has them: what deny.c does to them.
 */
#ifndef FLN_ENGINE_DENY_KERNEL_H
#define FLN_ENGINE_DENY_KERNEL_H

#include "engine/deny.h"
#include "engine/shard.h"

extern const struct fln_memory_ops fln_kernel_memory;

/* Unmap what is still anonymous memory of @nr ranges, in the order of their addresses. */
void fln_kernel_unmap_zeros(const struct fln_zeroed *zeroed, uint64_t nr);

#endif
