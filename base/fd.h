/* SPDX-License-Identifier: MIT */
/*
 * Keeps the library's descriptors above 0, 1 and 2, the numbers of the standard streams.
 *
 * When a host has closed its standard streams, the kernel reuses their numbers.  If a memfd
 * became descriptor 2, the host's next error message would be written into guest memory; if a
 * userfaultfd became 0, code that reads standard input would read it.  So
 * every descriptor that the library opens or receives passes through here at once.
 */
#ifndef FLN_BASE_FD_H
#define FLN_BASE_FD_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/*
 * Move @fd to a number of at least 3.  A negative @fd is returned unchanged, with errno.
 * Return: the descriptor; -1 with errno when no number was free, and @fd is closed then.
 */
int fln_fd_keep(int fd);

/* fopen() for reading, with a descriptor of at least 3.  Return: NULL with errno on failure. */
FILE *fln_fd_fopen(const char *path);

/* Read the @nth number (from 0) of the first line of a /proc or /sys file.  False: none there. */
bool fln_fd_read_number(const char *path, uint32_t nth, uint64_t *out);

#endif
