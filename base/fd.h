/* SPDX-License-Identifier: MIT */
/*
 * Descriptors: none of ours is 0, 1 or 2.
 *
 * Where a host has closed its standard streams the kernel hands their numbers out again.
 * A memfd with the number of standard error would have the host's next message written
 * into guest memory, and a userfaultfd would be read by the code that reads standard input.  So
 * every descriptor that the library opens or receives goes through here at once.
 */
#ifndef FLN_BASE_FD_H
#define FLN_BASE_FD_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/*
 * The descriptor under a number of at least 3.  A negative @fd is passed on as it is, with
 * errno.  Return: the descriptor; -1 with errno when there is no number left: @fd is closed.
 */
int fln_fd_keep(int fd);

/* fopen() for reading, the same way.  Return: NULL with errno. */
FILE *fln_fd_fopen(const char *path);

/* The @nth number, from 0 on, of the first line of a file of /proc or /sys.  False: none. */
bool fln_fd_read_number(const char *path, uint32_t nth, uint64_t *out);

#endif
