/* SPDX-License-Identifier: MIT */
/*
 * Mappings that nobody has touched when they are opened.
 *
 * mmap() alone does not give one: where the host has called mlockall(MCL_FUTURE) the
 * kernel reads every page of a new mapping at once, and a wrapper of mmap() may ask for
 * the same with MAP_POPULATE.  Of an image's memfd that is a page of zeros in the cache
 * for each that was never filled; of a region, a page table full of them, and no fault.
 */
#ifndef FLN_BASE_MAP_H
#define FLN_BASE_MAP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/types.h>

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

/*
 * mmap() without access (PROT_NONE), and not locked.  Return: MAP_FAILED with errno, EAGAIN
 * where locked memory would exceed RLIMIT_MEMLOCK.
 */
void *fln_map_closed(void *addr, uint64_t len_bytes, int flags, int fd, off_t offset_bytes);

/* Give access to it, to read and, if @writable, to write.  Return: 0; -errno. */
int fln_map_open(void *addr, uint64_t len_bytes, bool writable);

/* What to do about @err of the two, to follow the reason in a sentence; may be empty. */
const char *fln_map_remedy(int err);

#endif
