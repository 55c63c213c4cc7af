/* SPDX-License-Identifier: MIT */
/*
 * A multiplicative hash that spreads neighbouring numbers and addresses.  Use its high bits:
 * the low ones are poorly mixed.
 */
#ifndef FLN_BASE_HASH_H
#define FLN_BASE_HASH_H

#include <stdint.h>

static inline uint64_t fln_hash(uint64_t key)
{
	return key * UINT64_C(0x9e3779b97f4a7c15);
}

/* Hash the address of an object that is aligned to a cache line (64 bytes). */
static inline uint64_t fln_hash_ptr(const void *object)
{
	return fln_hash((uintptr_t)object >> 6);
}

#endif
