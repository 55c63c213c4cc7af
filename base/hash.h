/* SPDX-License-Identifier: MIT */
/*
 * A multiplicative hash: neighbouring numbers and addresses come to lie far apart.  The high
 * bits are the good ones.
 */
#ifndef FLN_BASE_HASH_H
#define FLN_BASE_HASH_H

#include <stdint.h>

static inline uint64_t fln_hash(uint64_t key)
{
	return key * UINT64_C(0x9e3779b97f4a7c15);
}

/* Of an object that lies at a multiple of a cache line, as all of ours do. */
static inline uint64_t fln_hash_ptr(const void *object)
{
	return fln_hash((uintptr_t)object >> 6);
}

#endif
