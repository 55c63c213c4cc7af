/* SPDX-License-Identifier: MIT */
/*
 * Maps memory without populating any page of it.
 *
 * mmap() alone may populate: after mlockall(MCL_FUTURE) the kernel faults in every page of a
 * new mapping at once, and a wrapper of mmap() may add MAP_POPULATE.  For an image's memfd that
 * would put a zero page into the page cache for every unfilled page; for a region it would
 * fill the page tables with zero pages, and no fault would ever occur.
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
 * mmap() with PROT_NONE and without VM_LOCKED.  Return: the address; MAP_FAILED with errno,
 * which is EAGAIN when locked memory would exceed RLIMIT_MEMLOCK.
 */
void *fln_map_closed(void *addr, uint64_t len_bytes, int flags, int fd, off_t offset_bytes);

/* Make such a mapping readable and, if @writable, writable.  Return: 0; -errno. */
int fln_map_open(void *addr, uint64_t len_bytes, bool writable);

/* The remedy for an errno of these two calls, to append to a message; may be empty. */
const char *fln_map_remedy(int err);

#endif
